//! The memo: values that the pickle refers to by number.

use std::collections::HashMap;

use super::heap::Value;

/// Python writes consecutive numbers, held in a vector; a map holds others.
#[derive(Debug, Default)]
pub(super) struct Memo {
    dense: Vec<Value>,
    sparse: HashMap<usize, Value>,
}

impl Memo {
    pub(super) fn get(&self, index: usize) -> Option<Value> {
        let dense = self.dense.get(index).copied();
        dense.or_else(|| self.sparse.get(&index).copied())
    }

    pub(super) fn put(&mut self, index: usize, value: Value) {
        if let Some(place) = self.dense.get_mut(index) {
            *place = value;
        } else if index == self.dense.len() {
            // The number may have been set out of order before.
            self.sparse.remove(&index);
            self.dense.push(value);
        } else {
            self.sparse.insert(index, value);
        }
    }

    /// True for a number that the vector holds or that comes next.
    pub(super) fn in_order(&self, index: usize) -> bool {
        index <= self.dense.len()
    }

    pub(super) fn len(&self) -> usize {
        self.dense.len() + self.sparse.len()
    }
}
