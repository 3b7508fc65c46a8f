//! A trained encoder and a split to embeddings
