//! Faceoff's command line: the commands of the program `faceoff`, one file a command. A workspace's `cargo xtask` offers
//! the same ones through [`Command`].

// The standard library's own macros end the program where what they print finds no reader: these note it.
macro_rules! print {
    ($($text:tt)*) => { $crate::terminal::out(format_args!($($text)*)) };
}
macro_rules! println {
    ($($text:tt)*) => { $crate::terminal::out(format_args!("{}\n", format_args!($($text)*))) };
}
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::terminal::err(format_args!("{}\n", format_args!($($text)*))) };
}

mod benchmark;
mod card;
mod cluster;
mod compare;
mod data;
mod embed;
mod experiment;
mod export;
mod heads;
mod jobs;
mod machine;
mod options;
mod program;
mod progress;
mod report;
mod results;
mod runs;
mod search;
mod session;
mod terminal;
mod thumbnails;
mod trained;
mod tune;

pub use machine::use_threads;
pub use options::{KERNELS_VARIABLE, RootOption};
pub use program::{COMMIT, Program};
pub use results::plain_table;

use anyhow::Result;
use clap::Subcommand;
use std::process::ExitCode;

/// What the program is for.
pub const ABOUT: &str = "Which classification head teaches an encoder the best embeddings? Faceoff trains heads on the same encoder, data and seeds, and compares what they learnt.";

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Train all heads of an experiment, embed both splits, write the report.
    ///
    /// A benchmark that was stopped or killed goes on where the last finished epoch ended: run the same command again.
    /// Runs that are whole are never trained twice.
    Benchmark(benchmark::BenchmarkArgs),
    /// Make the report of an experiment again from its runs, without training; or one of embeddings from elsewhere.
    Report(report::ReportArgs),
    /// Find peak learning rate, scale and margin of each head with the same budget, without a look at the validation images.
    ///
    /// Trials are trained on nine tenths of the training images and scored on the tenth held back; the best of each head are
    /// written as a new experiment, trials included. The budget stands in the experiment's `[tuning]`. Stopped or killed,
    /// it goes on where it was: run the same command again.
    Tune(tune::TuneArgs),
    /// Spread an experiment over many machines: a script for Slurm, or a manifest for Kubernetes.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Fetch or verify the images.
    #[command(subcommand)]
    Data(data::DataCommand),
    /// Embed any images with the encoder of a trained run: a folder, files or a list, into Parquet or NPY.
    ///
    /// Images are cut and scaled as the run's validation images were. One that cannot be read ends it, unless --skip-unreadable. The file
    /// appears when it is whole; Ctrl-C leaves nothing.
    Embed(embed::EmbedArgs),
    /// Look for the images that look most like one, among those of a file that `embed` wrote.
    ///
    /// Cosines stand in the terminal, and with --html thumbnails on a page. Where classes were held out from training, the run recommends a
    /// threshold below which a neighbour is none.
    Search(search::SearchArgs),
    /// Write the encoder of a trained run for other programs, as ONNX, and its model card.
    Export(export::ExportArgs),
    /// Finished runs, beside their report.
    #[command(subcommand)]
    Runs(runs::RunsCommand),
    /// List the heads with formula, parameters and paper.
    Heads(heads::HeadsArgs),
    /// List the experiments, or show one as it is run.
    #[command(subcommand)]
    Experiment(experiment::ExperimentCommand),
}

impl Command {
    /// Does what the command says; the exit status is for the shell.
    ///
    /// # Errors
    /// Whatever keeps the command from its end, to be shown to the user by [`end`].
    pub fn run(&self, program: &Program) -> Result<ExitCode> {
        machine::check_threads()?;
        match self {
            Self::Benchmark(args) => benchmark::run(program, args),
            Self::Report(args) => report::run(program, args),
            Self::Tune(args) => tune::run(program, args),
            Self::Cluster(command) => cluster::run(program, command),
            Self::Embed(args) => embed::run(program, args),
            Self::Search(args) => search::run(program, args),
            Self::Export(args) => export::run(program, args),
            Self::Runs(command) => runs::run(program, command),
            Self::Data(command) => data::run(program, command),
            Self::Heads(args) => heads::run(program, args),
            Self::Experiment(command) => experiment::run(program, command),
        }
    }
}

/// What a shell reports where the work was done and not all of it could be printed: EX_IOERR of sysexits.h.
const OUTPUT_CUT: u8 = 74;

/// The exit status of a command; an error is shown on stderr.
pub fn end(result: Result<ExitCode>) -> ExitCode {
    let code = result.unwrap_or_else(|error| {
        eprintln!("error: {}", with_causes(&error));
        ExitCode::FAILURE
    });
    if code == ExitCode::SUCCESS && terminal::is_cut() { ExitCode::from(OUTPUT_CUT) } else { code }
}

/// An error with its causes, those left out that its message already holds.
fn with_causes(error: &anyhow::Error) -> String {
    let with = |message: String, cause: String| {
        if message.contains(&cause) { message } else { format!("{message}: {cause}") }
    };
    error.chain().map(ToString::to_string).reduce(with).unwrap_or_default()
}
