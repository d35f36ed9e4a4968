//! Maximum mean discrepancy and moment matching, differentiable on Candle tensors
