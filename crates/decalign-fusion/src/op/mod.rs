//! The fused operations, each with its backward pass.

pub(crate) mod attention;
pub(crate) mod device;
pub(crate) mod gelu;
pub(crate) mod mean;
pub(crate) mod projection;
pub(crate) mod residual_norm;
pub(crate) mod rotary;
