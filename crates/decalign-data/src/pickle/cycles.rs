//! Detection of values that contain themselves.

use super::heap::{Elements, Heap, Object, Value};

/// The byte of an object that contains itself, if there is one.
///
/// Visits every object once, with a stack on the heap.
pub(super) fn find(heap: &Heap, root: Value) -> Option<usize> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        Open,
        Done,
    }
    let mut states = vec![State::New; heap.len()];
    // An object and how many of its values were visited.
    let mut path: Vec<(u32, usize)> = Vec::new();
    let mut next = Some(root);
    loop {
        match next {
            Some(Value::Object(id)) => match states[id as usize] {
                State::New => {
                    states[id as usize] = State::Open;
                    path.push((id, 0));
                }
                State::Open => return Some(heap.place(id)),
                State::Done => {}
            },
            Some(_) => {}
            None => {
                let (id, _) = path.pop()?;
                states[id as usize] = State::Done;
            }
        }
        let (id, visited) = path.last_mut()?;
        next = part(heap, *id, *visited);
        *visited += 1;
    }
}

/// Value number `i` of those an object holds.
fn part(heap: &Heap, id: u32, i: usize) -> Option<Value> {
    match heap.get(id) {
        Object::Tuple(items) | Object::List(items) => items.get(i).copied(),
        Object::Dict(items) => {
            let (key, value) = items.get(i / 2)?;
            Some(if i.is_multiple_of(2) { *key } else { *value })
        }
        Object::Array(elements) => match **elements {
            Elements::Objects { list, .. } if i == 0 => Some(Value::Object(list)),
            _ => None,
        },
        Object::Text(_) | Object::Bytes(_) | Object::DType(_) => None,
    }
}
