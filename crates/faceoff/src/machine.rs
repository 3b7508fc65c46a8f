//! The machine: device and threads.

use crate::Program;
use crate::options::{DeviceChoice, KERNELS_VARIABLE, TrainingArgs};
use anyhow::{Context, Result, bail};
use candle_core::Device;
use clap::Args;
use faceoff_kernels::Arithmetic;
use faceoff_runs::{Experiment, Precision};

/// The device asked for, or an error with the command that builds it in.
fn device(program: &Program, choice: DeviceChoice) -> Result<Device> {
    use DeviceChoice::{Auto, Cpu, Cuda, Metal};
    let (cuda, metal) = (candle_core::utils::cuda_is_available(), candle_core::utils::metal_is_available());
    let silent = |name: &str| format!("{name} is built in but no GPU answers; try --device cpu");
    let command = |feature: &str| program.command_with_feature(feature, &format!("benchmark --device {feature}"));
    match choice {
        Cuda | Auto if cuda => Device::new_cuda(0).with_context(|| silent("CUDA")),
        Metal | Auto if metal => Device::new_metal(0).with_context(|| silent("Metal")),
        Cpu | Auto => Ok(Device::Cpu),
        Cuda => bail!("this build has no CUDA; build and run it with: {}", command("cuda")),
        Metal => bail!("this build has no Metal; build and run it with: {}", command("metal")),
    }
}

/// What computes embeddings of a trained encoder.
#[derive(Args)]
pub(crate) struct ComputeArgs {
    /// Where to compute. `auto` takes CUDA, Metal, CPU in that order, as far as this build has them.
    #[arg(long, value_enum, default_value = "auto")]
    device: DeviceChoice,
    /// Kernels of the encoder: avx512, avx2, neon, portable, cuda or candle; the fastest of machine and device unless stated. Another gives
    /// the same up to rounding.
    #[arg(long, env = KERNELS_VARIABLE, hide_env_values = true, value_name = "NAME")]
    kernels: Option<String>,
    /// Threads for everything; all processors unless stated. They change no bit.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

impl ComputeArgs {
    pub(crate) fn arithmetic(&self, program: &Program) -> Result<Arithmetic> {
        let device = device(program, self.device)?;
        Ok(Arithmetic::resolve(&device, self.kernels.as_deref(), Precision::F32.as_str())?)
    }
}

/// What computes an experiment.
pub(crate) fn arithmetic(program: &Program, args: &TrainingArgs, experiment: &Experiment) -> Result<Arithmetic> {
    let (device, precision) = (device(program, args.device)?, experiment.training.precision.as_str());
    let arithmetic = Arithmetic::resolve(&device, args.kernels.as_deref(), precision)?;
    if arithmetic.is_emulated() {
        eprintln!(
            "warning: bf16 is emulated, bit for bit as AMX computes it, and takes many times as long as f32: --kernels emulated asks for that, \
             or this processor has neither AMX nor AVX-512 BF16"
        );
    }
    Ok(arithmetic)
}

/// What computes where nothing is trained, whatever a training would ask for.
pub(crate) fn plain_arithmetic() -> Result<Arithmetic> {
    Ok(Arithmetic::resolve(&Device::Cpu, None, Precision::F32.as_str())?)
}

/// Threads that each processor may be given.
const MOST_THREADS_EACH: usize = 4;
/// Any machine may use so many.
const ANY_THREADS: usize = 8;
/// The environment variable that Rayon and Candle read.
const THREADS_VARIABLE: &str = "RAYON_NUM_THREADS";

/// Checks the number of threads that the environment asks for.
pub(crate) fn check_threads() -> Result<()> {
    let asked = std::env::var(THREADS_VARIABLE).ok().and_then(|value| value.parse().ok());
    asked.map_or(Ok(()), |threads| check(THREADS_VARIABLE, threads))
}

/// More threads than processors only wait for each other, and each takes its memory.
fn check(name: &str, threads: usize) -> Result<()> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let most = ANY_THREADS.max(MOST_THREADS_EACH * processors);
    if threads > most {
        bail!("{name} is {threads}, but this machine has {processors} processors; it must be at most {most}");
    }
    Ok(())
}

/// Memory that a training takes at least: the encoder's weights, gradients and moments, activations of a batch, images on their way.
const LEAST_MEMORY_MIB: u64 = 1024;

/// Checks the limits of memory that Linux sets this process: beyond them an allocation fails, which ends the program without a word.
pub(crate) fn check_memory() -> Result<()> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let limits = read("/proc/self/limits");
    let address_space =
        limits.lines().find_map(|line| line.strip_prefix("Max address space")?.split_whitespace().next());
    let groups = read("/proc/self/cgroup");
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let of_group = group.map(|group| read(&format!("/sys/fs/cgroup{group}/memory.max")));
    for (limit, bytes) in [("`ulimit -v`", address_space), ("the control group", of_group.as_deref())] {
        // Without a limit both say so in a word.
        let mib = bytes.and_then(|bytes| bytes.trim().parse::<u64>().ok()).map(|bytes| bytes >> 20);
        if let Some(mib) = mib.filter(|mib| *mib < LEAST_MEMORY_MIB) {
            bail!(
                "{limit} leaves this program {mib} MiB of memory, but a training needs at least {LEAST_MEMORY_MIB}; raise the limit"
            );
        }
    }
    Ok(())
}

/// Makes every library use `threads` threads.
///
/// Candle reads the number from the environment, and a running program cannot change its environment safely: so the
/// program starts itself once more with the variable set, and this function returns only where that is not needed.
///
/// # Errors
/// The program cannot start itself.
pub fn use_threads(threads: Option<u16>) -> Result<()> {
    const VARIABLE: &str = THREADS_VARIABLE;
    let Some(threads) = threads else { return Ok(()) };
    check("--threads", threads.into())?;
    if std::env::var(VARIABLE).is_ok_and(|value| value == threads.to_string()) {
        return Ok(());
    }
    let program = std::env::current_exe().context("the program does not find itself to start again with --threads")?;
    let mut command = std::process::Command::new(program);
    command.args(std::env::args_os().skip(1)).env(VARIABLE, threads.to_string());
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        Err(command.exec()).context("the program cannot start itself again with --threads")
    }
    #[cfg(not(unix))]
    {
        let status = command.status().context("the program cannot start itself again with --threads")?;
        std::process::exit(status.code().unwrap_or(1));
    }
}
