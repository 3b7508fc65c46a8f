//! `cluster`: an experiment spread over the machines of Slurm or Kubernetes, as a script or manifest that anyone can read and change.
//!
//! Both have the same three steps: the images, the runs as tasks that each take one shard, the report.

use crate::Program;
use crate::benchmark::BenchmarkArgs;
use crate::options::OutArgs;
use anyhow::{Context, Result, bail};
use askama::Template;
use clap::{Args, Parser, Subcommand};
use faceoff_runs::{Compute, Experiment, RunSpec, write_atomically};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Which scheduler.
#[derive(Subcommand)]
pub enum ClusterCommand {
    /// Write a script of three Slurm jobs: the images; the runs, an array whose tasks go on after a time limit; the report.
    Slurm(SlurmArgs),
    /// Write a manifest of three Kubernetes Jobs: the images; the runs, an indexed Job whose pods go on after an eviction; the report.
    Kubernetes(KubernetesArgs),
}

/// What both need to know.
#[derive(Args)]
struct SpreadArgs {
    /// Name of a file in experiments/, without `.toml`; or the path of any experiment file.
    #[arg(default_value = "quick")]
    experiment: String,
    /// Tasks that the runs are divided into [default: one for each run]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    tasks: Option<u32>,
    /// Tasks at the same time [default: as many as the scheduler gives]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_parallel: Option<u32>,
    /// Processors, and threads, of each task.
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u16).range(1..=1024))]
    cpus: u16,
    /// File to write [default: slurm.sh or kubernetes.yaml in the report's folder]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    out: OutArgs,
    /// Options of `benchmark` for every run.
    #[arg(last = true, value_name = "OPTION")]
    benchmark: Vec<String>,
}

/// How to run on Slurm.
#[derive(Args)]
pub struct SlurmArgs {
    #[command(flatten)]
    spread: SpreadArgs,
    /// Partition [default: the cluster's own]
    #[arg(long, value_name = "NAME")]
    partition: Option<String>,
    /// Account to charge [default: your own]
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// GPUs of each run: 1, or a type like a100:1 [default: none]
    #[arg(long, value_name = "GPUS")]
    gpus: Option<String>,
    /// Memory of each job.
    #[arg(long, value_name = "SIZE", default_value = "4G")]
    mem: String,
    /// Time limit of each run, as Slurm writes it (4:00:00). A run that takes longer goes on in a new turn [default: the partition's]
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// Any other option of sbatch for all jobs, e.g. --sbatch=--qos=low; may be given several times.
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    sbatch: Vec<String>,
    /// Submit the jobs too.
    #[arg(long)]
    submit: bool,
}

/// How to run on Kubernetes.
#[derive(Args)]
pub struct KubernetesArgs {
    #[command(flatten)]
    spread: SpreadArgs,
    /// Container image with the program `faceoff` on its path.
    #[arg(long)]
    image: String,
    /// Persistent volume claim (ReadWriteMany) for experiments/, data/ and reports/.
    #[arg(long, value_name = "NAME")]
    claim: String,
    /// Where it is mounted.
    #[arg(long, value_name = "DIR", default_value = "/faceoff")]
    mount: String,
    /// GPUs (nvidia.com/gpu) of each run [default: none]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16))]
    gpus: Option<u16>,
    /// Memory of each pod.
    #[arg(long, value_name = "SIZE", default_value = "4Gi")]
    mem: String,
}

pub(crate) fn run(program: &Program, command: &ClusterCommand) -> Result<ExitCode> {
    match command {
        ClusterCommand::Slurm(args) => slurm(program, args),
        ClusterCommand::Kubernetes(args) => kubernetes(program, args),
    }
}

/// The options of a benchmark by themselves.
#[derive(Parser)]
#[command(name = "benchmark", no_binary_name = true)]
struct BenchmarkLine {
    #[command(flatten)]
    args: BenchmarkArgs,
}

/// What is spread.
struct Spread {
    experiment: Experiment,
    runs: usize,
    tasks: usize,
    /// The words of a benchmark of it, without the folder of reports.
    words: Vec<String>,
}

impl SpreadArgs {
    fn spread(&self, program: &Program) -> Result<Spread> {
        let mut words = vec![self.experiment.clone()];
        words.extend(self.benchmark.iter().cloned());
        let given = |option: &str| self.benchmark.iter().any(|word| word.split('=').next() == Some(option));
        let own = ["--out", "--shard", "--prepare", "--report", "--dry-run", "--open"];
        if let Some(option) = own.into_iter().find(|option| given(option)) {
            bail!(
                "{option} cannot stand behind `--`: every task gets what it needs of it; leave it out, or put --out before `--`"
            );
        }
        if !given("--threads") {
            words.extend(["--threads".into(), self.cpus.to_string()]);
        }
        // Wrong options are said now, not by every task.
        let parse = |more: &[&str]| {
            let line = words.iter().map(String::as_str).chain(more.iter().copied());
            BenchmarkLine::try_parse_from(line).map_err(|error| anyhow::anyhow!(error.to_string()))
        };
        parse(&["--prepare"])?;
        parse(&["--report"])?;
        let line = parse(&["--shard", "0/1"])?;
        let experiment = line.args.experiment(program)?;
        let runs = RunSpec::of(&experiment, &Compute::unknown()).len();
        let tasks = self.tasks.map_or(runs, |tasks| (tasks as usize).min(runs));
        words.insert(0, "benchmark".into());
        Ok(Spread { experiment, runs, tasks, words })
    }

    fn file(&self, program: &Program, experiment: &Experiment, name: &str) -> Result<PathBuf> {
        let file = self.file.clone();
        let file = file.unwrap_or_else(|| self.out.report_folder(program, &experiment.name).join(name));
        absolute(&file)
    }
}

#[derive(Template)]
#[template(path = "slurm.sh", escape = "none")]
struct SlurmScript {
    name: String,
    job: String,
    runs: usize,
    tasks: usize,
    max_parallel: Option<u32>,
    cpus: u16,
    mem: String,
    // Words of the shell from here on.
    command: String,
    file: String,
    logs: String,
    program: String,
    benchmark: String,
    common: String,
    run_options: String,
}

fn slurm(program: &Program, args: &SlurmArgs) -> Result<ExitCode> {
    let SlurmArgs { spread: all, partition, account, gpus, mem, time, sbatch, submit } = args;
    let Spread { experiment, runs, tasks, words } = all.spread(program)?;
    let file = all.file(program, &experiment, "slurm.sh")?;
    let here = std::env::current_dir().context("the current folder cannot be found")?;
    let reports = absolute(&all.out.folder(program))?;
    let out = ["--out".to_string(), text(&reports)?];
    let exe = std::env::current_exe().context("the program does not find itself")?;
    let option = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("--{name}={value}"));
    let common =
        [Some(format!("--chdir={}", here.display())), option("partition", partition), option("account", account)];
    let script = SlurmScript {
        job: job_name(&experiment.name),
        runs,
        tasks,
        max_parallel: all.max_parallel,
        cpus: all.cpus,
        mem: quoted([mem])?,
        command: command_line()?,
        file: quoted([&text(&file)?])?,
        logs: quoted([&text(&reports.join(&experiment.name).join("logs"))?])?,
        program: quoted([&text(&exe)?, "--root", &text(&absolute(&program.root)?)?])?,
        benchmark: quoted(words.iter().chain(&out).map(String::as_str))?,
        common: quoted(common.iter().flatten().chain(sbatch).map(String::as_str))?,
        run_options: quoted(
            [option("gres", &gpus.as_ref().map(|gpus| format!("gpu:{gpus}"))), option("time", time)]
                .iter()
                .flatten()
                .map(String::as_str),
        )?,
        name: experiment.name,
    };
    write(&file, &script.render()?)?;
    println!("{}: {runs} runs in {tasks} tasks, {} threads each", file.display(), all.cpus);
    if !submit {
        println!("submit with: bash {}", script.file);
        return Ok(ExitCode::SUCCESS);
    }
    let status = Command::new("bash").arg(&file).status().context("bash cannot be started")?;
    if !status.success() {
        bail!("the jobs could not be submitted; see above, then: bash {}", script.file);
    }
    Ok(ExitCode::SUCCESS)
}

/// One Job of a manifest; strings are JSON, which YAML reads.
struct Step {
    what: &'static str,
    label: &'static str,
    job: String,
    indexed: bool,
    command: String,
}

#[derive(Template)]
#[template(path = "kubernetes.yaml", escape = "none")]
struct Manifest {
    name: String,
    command: String,
    runs: usize,
    tasks: usize,
    parallelism: usize,
    image: String,
    cpus: u16,
    mem: String,
    gpus: Option<u16>,
    mount: String,
    claim: String,
    steps: [Step; 3],
}

fn kubernetes(program: &Program, args: &KubernetesArgs) -> Result<ExitCode> {
    let KubernetesArgs { spread: all, image, claim, mount, gpus, mem } = args;
    let Spread { experiment, runs, tasks, words } = all.spread(program)?;
    let file = all.file(program, &experiment, "kubernetes.yaml")?;
    let job = job_name(&experiment.name);
    let command = |words: &[String], more: &[&str]| {
        let root = ["faceoff", "--root", mount];
        json(&root.into_iter().chain(words.iter().map(String::as_str)).chain(more.iter().copied()).collect::<Vec<_>>())
    };
    let [images, report] = ["images", "report"].map(|step| format!("{job}-{step}"));
    let shard = format!("$(JOB_COMPLETION_INDEX)/{tasks}");
    let steps = [
        Step {
            what: "The images, once.",
            label: "images",
            job: images.clone(),
            indexed: false,
            command: command(&words, &["--prepare"]),
        },
        Step {
            what: "The runs. Who finds all of them ended makes the report.",
            label: "runs",
            job: job.clone(),
            indexed: true,
            command: command(&words, &["--shard", &shard]),
        },
        Step {
            what: "The report, of whatever is there; it names what failed.",
            label: "report",
            job: report.clone(),
            indexed: false,
            command: command(&words, &["--report"]),
        },
    ];
    let parallelism = all.max_parallel.map_or(tasks, |most| (most as usize).min(tasks));
    let manifest = Manifest {
        name: experiment.name,
        command: command_line()?,
        runs,
        tasks,
        parallelism,
        image: json(image),
        cpus: all.cpus,
        mem: json(mem),
        gpus: *gpus,
        mount: json(mount),
        claim: json(claim),
        steps,
    };
    write(&file, &manifest.render()?)?;
    println!("{}: {runs} runs in {tasks} indexes, {} threads each", file.display(), all.cpus);
    let path = quoted([&text(&file)?])?;
    println!("apply the Jobs one after another, by label:");
    println!(
        "  kubectl apply -f {path} -l step=images && kubectl wait --for=condition=complete --timeout=-1s job/{images}"
    );
    println!("  kubectl apply -f {path} -l step=runs");
    println!("  kubectl apply -f {path} -l step=report    # when the runs have ended and something failed");
    Ok(ExitCode::SUCCESS)
}

/// A name as schedulers allow them: small letters, digits and hyphens, not too long.
fn job_name(experiment: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = experiment.chars().map(allowed).take(40).collect();
    format!("faceoff-{}", name.trim_matches('-')).trim_end_matches('-').into()
}

fn absolute(path: &Path) -> Result<PathBuf> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    std::path::absolute(path).with_context(|| format!("{}: the current folder cannot be found", path.display()))
}

fn text(path: &Path) -> Result<String> {
    path.to_str()
        .map(String::from)
        .with_context(|| format!("{}: its name is no UTF-8, as a script must be", path.display()))
}

/// Words as the shell reads them.
fn quoted<'a>(words: impl IntoIterator<Item = &'a (impl AsRef<str> + ?Sized + 'a)>) -> Result<String> {
    let words = words.into_iter().map(AsRef::as_ref);
    shlex::try_join(words).context("a word with a zero byte cannot stand in a script")
}

/// How this command was given, in one line.
fn command_line() -> Result<String> {
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    Ok(quoted(words.iter().map(String::as_str))?.replace('\n', " "))
}

fn json(value: &(impl serde::Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("text is always valid JSON")
}

fn write(file: &Path, text: &str) -> Result<()> {
    Ok(write_atomically(file, |to| to.write_all(text.as_bytes()))?)
}
