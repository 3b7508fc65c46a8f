//! Pure functions on embeddings, scores and labels
