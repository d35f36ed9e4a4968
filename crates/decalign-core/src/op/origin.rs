//! The operation that a tensor came out of.
//!
//! Candle shows no tensor's operation, so outputs of recorded ones are looked up by their numbers. A tensor is
//! forgotten with the last of its clones.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use candle_core::{Tensor, TensorId};

use super::node::Node;

/// An output of an operation.
pub(super) struct Origin {
    node: Arc<Node>,
    /// The operation's last token: in a backward pass its turn comes after all that use the output.
    token: Tensor,
    index: usize,
    tensor: OnceLock<TensorId>,
}

type Origins = HashMap<TensorId, Weak<Origin>>;

static ORIGINS: LazyLock<Mutex<Origins>> = LazyLock::new(Mutex::default);

fn origins() -> MutexGuard<'static, Origins> {
    ORIGINS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Origin {
    pub(super) fn new(node: Arc<Node>, token: Tensor, index: usize) -> Arc<Self> {
        Arc::new(Self {
            node,
            token,
            index,
            tensor: OnceLock::new(),
        })
    }

    /// Makes this the origin of a tensor, which owns it from now on.
    pub(super) fn register(self: Arc<Self>, tensor: &Tensor) {
        if self.tensor.set(tensor.id()).is_ok() {
            origins().insert(tensor.id(), Arc::downgrade(&self));
        }
    }

    /// That of a tensor, if it came out of a recorded operation and carries a gradient.
    pub(super) fn of(tensor: &Tensor) -> Option<Arc<Self>> {
        origins().get(&tensor.id())?.upgrade()
    }

    pub(super) fn name(&self) -> &'static str {
        self.node.name()
    }

    pub(super) fn token(&self) -> &Tensor {
        &self.token
    }

    /// Adds to the gradient of the tensor.
    pub(super) fn receive(&self, gradient: Tensor) -> candle_core::Result<()> {
        self.node.receive(self.index, gradient)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(id) = self.tensor.get() {
            origins().remove(id);
        }
    }
}

#[cfg(test)]
pub(super) fn known(id: TensorId) -> bool {
    origins().contains_key(&id)
}
