//! Multimodal data sets: container format, splits, standardisation, batches, and an embedded example
