//! The errors of this crate: each carries the path or run, the rule and the remedy.

/// The result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a report could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The runs could not be evaluated.
    #[error(transparent)]
    Evaluation(#[from] faceoff_evaluation::Error),
    /// The report's files could not be written or removed.
    #[error(transparent)]
    Runs(#[from] faceoff_runs::Error),
    /// A table could not be put together.
    #[error("the table {table} could not be made: {source}")]
    Table {
        /// The table's file name.
        table: String,
        /// What the table library says.
        source: polars::error::PolarsError,
    },
    /// A picture could not be drawn.
    #[error("the picture {picture} could not be drawn: {reason}")]
    Picture {
        /// The picture's file name.
        picture: String,
        /// What the plotting library says.
        reason: String,
    },
    /// The page could not be written.
    #[error("the page could not be made: {0}")]
    Page(#[from] askama::Error),
}
