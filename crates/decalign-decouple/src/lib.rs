//! Decoupling of modalities into unique and common features on Candle tensors
