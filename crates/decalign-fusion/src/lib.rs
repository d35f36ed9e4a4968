//! Cross-modal attention and transformer encoders for any number of modalities on Candle tensors
