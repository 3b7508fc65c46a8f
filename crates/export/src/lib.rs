//! A trained run for other programs: its encoder as ONNX, and embeddings of any images, to be searched.
//!
//! ```text
//! weights (runs) and architecture (kernels) -> nodes -> bytes of an .onnx file       onnx, proto
//! embeddings as they are made -> .parquet or .npy -> the nearest of them             index
//! ```
//!
//! Nothing here computes an embedding or decodes an image.

use smallvec as _; // for its features alone, see Cargo.toml

mod index;
mod onnx;
mod proto;

pub use index::{About, Index, IndexError, Neighbor, Sink, index_files, nearest, write_index, write_unreadable};
pub use onnx::{Error, Exported, INPUT_IMAGES, INPUT_ROWS, OPSET, OUTPUT, SCORES, Scores, onnx};
