//! DecAlign: hierarchical cross-modal alignment for decoupled multimodal representation learning
