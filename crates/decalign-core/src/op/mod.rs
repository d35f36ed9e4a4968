//! Differentiable operations with any number of inputs and outputs.
//!
//! Candle's own custom operations take at most three inputs and give one output. [`record`] lifts
//! both limits: a chain of scalar *tokens* ties any number of inputs to any number of outputs, and
//! the gradient of the whole operation is computed once, when the first token is reached:
//!
//! ```text
//!  x0 x1 x2        x3 x4
//!    \ | /          | /
//!    token  --->  token  ---> y0, y1, ...
//! ```
//!
//! Only inputs that carry gradients enter the chain; without any, the outputs are plain tensors.
//!
//! Candle clears a tensor for every gradient and adds to it, even where it is the only one. From one recorded operation
//! to the next gradients therefore go directly, and what Candle walks over are tokens.
//!
//! [`parallel()`] runs whole parts of a graph at the same time, forward and backward; a [`Tape`] does without Candle's
//! backward pass, for devices, where every touch of a token is a launch.

mod backward;
mod branches;
pub(crate) mod deferred;
mod gradients;
mod graph;
mod output;
mod producer;
mod record;
mod split;
mod tape;
mod token;

pub use backward::{Backward, InputGradients};
pub use branches::{Branch, parallel};
pub use gradients::Gradients;
pub use graph::Graph;
pub use output::Output;
pub use record::{record, record_adding, record_one};
pub use split::split;
pub use tape::{Tape, without_gradients};
