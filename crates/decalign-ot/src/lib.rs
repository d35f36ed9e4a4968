//! Multi-marginal optimal transport, differentiable on Candle tensors
