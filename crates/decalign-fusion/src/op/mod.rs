//! The fused operations.

pub(crate) mod attention;
pub(crate) mod context;
pub(crate) mod device;
pub(crate) mod gelu;
pub(crate) mod mean;
pub(crate) mod projection;
pub(crate) mod residual_norm;
pub(crate) mod rotary;
