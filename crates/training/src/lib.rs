//! Encoder and head, one visible training loop, checkpoints
