//! Images: fetch, verify, decode, augment, batch
