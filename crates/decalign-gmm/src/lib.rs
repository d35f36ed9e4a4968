//! Gaussian mixtures by expectation maximisation, differentiable on Candle tensors
