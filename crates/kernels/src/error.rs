//! The errors of this crate: each carries the value, the rule and the remedy.

/// What can go wrong in the encoder's arithmetic.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum Error {
    /// The pixel buffer does not fit the stated batch.
    #[error(
        "{bytes} bytes of pixels for {count} images of {size_px} px: expected count * size * size * 3 bytes and at least one image; check the batch"
    )]
    ImageBytes { bytes: usize, count: usize, size_px: usize },
    /// The numbers of rows do not fit their count.
    #[error("{numbers} numbers are no {count} rows of equally many: each row needs at least one; check the batch")]
    RowNumbers { numbers: usize, count: usize },
    /// Rows are not as wide as the projection was made for.
    #[error(
        "rows of {found} numbers for a projection of {expected}: take embeddings of the model that it was made for"
    )]
    RowWidth { found: usize, expected: usize },
    /// An encoder of images was given rows, or the other way round; a mistake of the calling program.
    #[error("the encoder takes {expected}, but was given {found}")]
    Inputs { expected: &'static str, found: &'static str },
    /// A tensor of a state has the wrong name, shape or type, or is missing.
    #[error("tensor `{name}`: {problem}; the file must hold {expected} names and shapes")]
    State { name: String, problem: String, expected: String },
    /// No encoder has this name.
    #[error("`{name}` names no encoder; choose one of {known}")]
    UnknownArchitecture { name: String, known: String },
    /// No kernels of this device have this name.
    #[error("`{name}` names no kernels of this machine's {device}, which has {known}; choose one of these")]
    UnknownKernels { name: String, device: &'static str, known: String },
    /// No precision has this name, or the kernels do not compute in it.
    #[error(
        "precision `{name}` with {arithmetic}: it may be f32, or tf32 or bf16 with own CUDA kernels, or bf16 on the CPU; choose f32"
    )]
    Precision { name: String, arithmetic: String },
    /// A batch is too small for the batch norm of this name.
    #[error("batch norm `{0}` sees one value a channel and has no variance; train on more or larger images")]
    NoVariance(String),
    /// A batch is too large for a GPU's 32-bit indices.
    #[error("{0} numbers in one map are more than 2^32 - 1; train on smaller batches")]
    MapTooLarge(usize),
    /// The toolkit at hand cannot compile the CUDA kernels for this GPU.
    #[error(
        "the CUDA kernels do not compile for compute capability {capability}: {problem}; use a CUDA toolkit that supports this GPU, or the kernels `candle`"
    )]
    CudaKernels { capability: String, problem: String },
    /// A GPU without products of bf16.
    #[error("bf16 needs a GPU of compute capability 8.0 or later, and this one has {0}; choose precision f32")]
    CudaBf16(String),
    /// An encoder with an operator that the own CUDA kernels do not have.
    #[error("{name} is not computed by the kernels `cuda`, which have no {missing}; {remedy}")]
    NotByCuda { name: &'static str, missing: &'static str, remedy: &'static str },
    /// A gradient at the embeddings that does not fit them; a mistake of the calling program.
    #[error("the gradient's shape is {found:?}, the embeddings' {expected:?}: they must be equal")]
    GradientShape { found: Vec<usize>, expected: Vec<usize> },
    /// A tape or gradients of another encoder; a mistake of the calling program.
    #[error("the tape or the gradients are of another encoder; give back what this encoder returned")]
    Foreign,
    /// A failure inside Candle.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}
