//! Classification heads: embeddings and labels to logits
