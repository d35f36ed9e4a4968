//! The stack of the interpreter: values, marks, and the memory they may take.

use super::heap::{Object, Value};
use super::machine::{Machine, PickleResult};

impl Machine<'_> {
    /// An error when the file's size does not justify memory for `count` more values of type `T`.
    pub(super) fn afford<T>(&mut self, count: usize) -> PickleResult {
        match self.heap.take::<T>(count) {
            true => Ok(()),
            false => self.fault("builds more than a file of its size can hold"),
        }
    }

    pub(super) fn add(&mut self, object: Object) -> PickleResult<Value> {
        match self.heap.add(object, self.at) {
            Some(value) => Ok(value),
            None => self.fault("builds more than a file of its size can hold"),
        }
    }

    pub(super) fn push(&mut self, value: Value) -> PickleResult {
        if self.stack.len() == self.stack.capacity() {
            // Popped values free their slots: only the growth of the vector costs memory.
            self.afford::<Value>(self.stack.len().max(4))?;
        }
        self.stack.push(value);
        Ok(())
    }

    /// The height of the stack at the last mark: values below it must not be popped.
    pub(super) fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    pub(super) fn top(&self) -> PickleResult<Value> {
        match self.stack.last() {
            Some(value) if self.stack.len() > self.floor() => Ok(*value),
            _ => self.fault("the stack is empty"),
        }
    }

    pub(super) fn pop(&mut self) -> PickleResult<Value> {
        let value = self.top()?;
        self.stack.pop();
        Ok(value)
    }

    pub(super) fn drop_one(&mut self) -> PickleResult {
        // Python lets this opcode take a mark, too.
        if self.stack.len() == self.floor() && self.marks.pop().is_some() {
            return Ok(());
        }
        self.pop().map(|_| ())
    }

    pub(super) fn since_mark(&mut self) -> PickleResult<Vec<Value>> {
        match self.marks.pop() {
            Some(mark) => {
                self.afford::<Value>(self.stack.len() - mark)?;
                Ok(self.stack.split_off(mark))
            }
            None => self.fault("there is no mark on the stack"),
        }
    }

    pub(super) fn pairs(&mut self, values: &[Value]) -> PickleResult<Vec<(Value, Value)>> {
        let (pairs, rest) = values.as_chunks::<2>();
        if !rest.is_empty() {
            return self.fault("a key without a value");
        }
        self.afford::<[Value; 2]>(pairs.len())?;
        Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
    }

    pub(super) fn extend(&mut self, values: &[Value]) -> PickleResult {
        let target = self.top()?;
        self.afford::<Value>(values.len())?;
        if let Value::Object(id) = target
            && let Object::List(items) = self.heap.get_mut(id)
        {
            items.extend_from_slice(values);
            return Ok(());
        }
        self.fault("appends to something that is no list")
    }

    pub(super) fn set_items(&mut self, values: &[Value]) -> PickleResult {
        let pairs = self.pairs(values)?;
        if let Value::Object(id) = self.top()?
            && let Object::Dict(items) = self.heap.get_mut(id)
        {
            items.extend(pairs);
            return Ok(());
        }
        self.fault("sets an item of something that is no dictionary")
    }
}
