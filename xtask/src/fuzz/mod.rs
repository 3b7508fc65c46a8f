//! `cargo xtask fuzz`: damaged and made-up inputs for everything that reads files, without end or for some seconds.
//!
//! Each input must be read or refused: without a panic or an abort, within the target's memory and time, and, for stored results, with
//! the numbers of the undamaged files or a word about the damage. Inputs are a function of seed, target and number. They are tried in a
//! process of its own, which names each before it begins, so that what ends the process, or never ends, is known.

mod archive;
mod checkpoint;
mod embeddings;
mod experiment;
mod images;
mod mutate;
mod run;
mod watch;
mod worker;

use anyhow::{Context, Result};
use clap::Args;
use faceoff::Program;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of the files that a target reads, by their paths below a folder.
type Files = BTreeMap<String, Vec<u8>>;

/// A name beside the files of an input: those that hold checksums were given the right ones after the damage, so that only what files say,
/// and say of each other, can tell.
const RESEALED: &str = "resealed";

/// How an input ended that ended well, or nearly.
enum Outcome {
    /// An error was said.
    Refused,
    /// It was read; of stored results: the numbers are those of the undamaged files.
    Accepted,
    /// The results without the damaged part, or with other numbers, and a word about it.
    Told,
    /// Other results without a word; how they differ.
    Silent(String),
}

/// What reads the inputs of a kind.
trait Target {
    /// The input that `random` decides.
    fn input(&self, random: &mut ChaCha8Rng) -> Files;

    /// Reads it.
    fn read(&mut self, input: &Files) -> Outcome;
}

/// A row of [`KINDS`].
struct Kind {
    name: &'static str,
    /// Most memory of the process, the program's own 60 or so included.
    most_mib: u64,
    /// The target with a folder of its own to work in.
    open: fn(&Program, &Path) -> Result<Box<dyn Target>>,
}

/// What can be fuzzed.
const KINDS: [Kind; 6] = [
    Kind { name: "experiment", most_mib: 300, open: experiment::open },
    Kind { name: "archive", most_mib: 200, open: archive::open },
    Kind { name: "images", most_mib: 400, open: images::open },
    Kind { name: "embeddings", most_mib: 300, open: embeddings::open },
    Kind { name: "run", most_mib: 400, open: run::open },
    Kind { name: "checkpoint", most_mib: 300, open: checkpoint::open },
];

/// Most processor time of an input, all threads together: other processes may be at work, so that a clock would say little.
const MOST_SECONDS: f64 = 20.0;
/// Longest that an input may wait, for what never comes.
const MOST_WAITING: Duration = Duration::from_secs(600);

impl Kind {
    /// The random numbers of an input.
    fn random(&self, seed: u64, number: u64) -> ChaCha8Rng {
        let place = KINDS.iter().position(|kind| kind.name == self.name).expect("it is one of them");
        let mut random = ChaCha8Rng::seed_from_u64(seed.wrapping_mul(KINDS.len() as u64) + place as u64);
        random.set_stream(number);
        random
    }
}

fn kind(name: &str) -> Result<&'static Kind, String> {
    let known = || KINDS.map(|kind| kind.name).join(", ");
    KINDS.iter().find(|kind| kind.name == name).ok_or_else(|| format!("there are {}", known()))
}

/// What to fuzz, for how long.
#[derive(Args)]
pub(crate) struct FuzzArgs {
    /// experiment, archive, images, embeddings, run or checkpoint; all unless stated.
    #[arg(value_parser = kind)]
    targets: Vec<&'static Kind>,
    /// Time for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Targets that are fuzzed at the same time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Decides all inputs; the time unless stated.
    #[arg(long)]
    seed: Option<u64>,
    /// Try this one input of one target, in this process, and show what is said; needs --seed.
    #[arg(long, value_name = "NUMBER", requires = "seed")]
    input: Option<u64>,
    /// Where inputs are written that were found to be faults.
    #[arg(long, value_name = "DIR", default_value = "target/fuzz")]
    out: PathBuf,
    /// Try inputs from this number on, and say each; for the process that tries them.
    #[arg(long, hide = true)]
    from: Option<u64>,
}

pub(crate) fn run(program: &Program, args: &FuzzArgs) -> Result<ExitCode> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let seed = args.seed.unwrap_or_else(now);
    let targets = if args.targets.is_empty() { KINDS.iter().collect() } else { args.targets.clone() };
    if let (Some(from), [kind]) = (args.from, &targets[..]) {
        return worker::run(program, kind, seed, from, Duration::from_secs(args.seconds));
    }
    if let Some(number) = args.input {
        let [kind] = targets[..] else { anyhow::bail!("--input is of one target; name it") };
        return worker::show(program, kind, seed, number);
    }
    println!("seed {seed}, {} s each, at most {MOST_SECONDS} s of processor time an input", args.seconds);
    println!(
        "target        inputs  refused accepted     told   silent   panics    hangs  memory  worst of limit  seconds"
    );
    let waiting = Mutex::new(targets.into_iter().rev().collect::<Vec<_>>());
    let next = || waiting.lock().expect("nothing panics while it holds the list").pop();
    let watch_all = || -> Result<u64> {
        let mut findings = 0;
        while let Some(kind) = next() {
            let watched =
                watch::watch(program, kind, seed, Duration::from_secs(args.seconds), &program.path("").join(&args.out))
                    .with_context(|| format!("target {}", kind.name))?;
            println!("{}", watched.line(kind));
            findings += watched.findings();
        }
        Ok(findings)
    };
    let findings = std::thread::scope(|scope| -> Result<u64> {
        let watchers: Vec<_> = (0..args.jobs.max(1)).map(|_| scope.spawn(watch_all)).collect();
        let found = watchers.into_iter().map(|watcher| watcher.join().expect("a watcher does not panic"));
        Ok(found.collect::<Result<Vec<_>>>()?.iter().sum())
    })?;
    if findings > 0 {
        println!("{findings} inputs are faults; their files are named above");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Processor time that a process has taken so far, in seconds; 0 where the system does not say. `process` is its number, or `self`.
fn processor_seconds(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Behind the name in brackets: user and system time are fields 14 and 15 of proc(5), in hundredths of a second.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Writes an input into a folder.
fn write(folder: &Path, input: &Files) -> Result<()> {
    for (name, bytes) in input {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Empties a folder, or makes it.
fn clear(folder: &Path) {
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).expect("the folder of the inputs can be made");
}
