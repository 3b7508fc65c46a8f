//! The machine: device, threads, provenance.

use crate::{DeviceChoice, workspace};
use anyhow::{Context, Result, bail};
use candle_core::Device;
use faceoff_runs::Machine;
use sysinfo::System;

/// The device asked for, or an error with the command that builds it in.
pub(crate) fn device(choice: DeviceChoice) -> Result<Device> {
    let (cuda, metal) = (candle_core::utils::cuda_is_available(), candle_core::utils::metal_is_available());
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto if cuda => {
            Device::new_cuda(0).context("CUDA is built in but no GPU answers; try --device cpu")
        }
        DeviceChoice::Auto if metal => {
            Device::new_metal(0).context("Metal is built in but no GPU answers; try --device cpu")
        }
        DeviceChoice::Auto => Ok(Device::Cpu),
        DeviceChoice::Cuda if cuda => Device::new_cuda(0).context("no CUDA GPU answers; try --device cpu"),
        DeviceChoice::Metal if metal => {
            Device::new_metal(0).context("no Metal GPU answers; try --device cpu")
        }
        DeviceChoice::Cuda => {
            bail!("this build has no CUDA; build and run it with: cargo xtask-cuda benchmark --device cuda")
        }
        DeviceChoice::Metal => bail!(
            "this build has no Metal; build and run it with: cargo xtask-metal benchmark --device metal"
        ),
    }
}

/// Makes every library use `threads` threads.
///
/// Candle reads the number from the environment, and a running program cannot change its environment safely: so the
/// program starts itself once more with the variable set, and this function returns only where that is not needed.
pub(crate) fn use_threads(threads: Option<u16>) -> Result<()> {
    const VARIABLE: &str = "RAYON_NUM_THREADS";
    let Some(threads) = threads else { return Ok(()) };
    if std::env::var(VARIABLE).is_ok_and(|value| value == threads.to_string()) {
        return Ok(());
    }
    let program =
        std::env::current_exe().context("the program does not find itself to start again with --threads")?;
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

/// What the manifest says of this machine.
pub(crate) fn describe() -> Machine {
    let mut system = System::new();
    system.refresh_memory();
    system.refresh_cpu_list(sysinfo::CpuRefreshKind::nothing());
    let cpu = system.cpus().first().map(|cpu| cpu.brand().trim().to_string()).unwrap_or_default();
    Machine {
        cpu: if cpu.is_empty() { std::env::consts::ARCH.into() } else { cpu },
        processors: system.cpus().len(),
        memory_mib: system.total_memory() >> 20,
        system: System::long_os_version().unwrap_or_else(|| std::env::consts::OS.into()),
        threads: rayon::current_num_threads(),
    }
}

/// The commit of the sources, `-dirty` where they were changed, `unknown` without git.
pub(crate) fn commit() -> String {
    std::process::Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"])
        .current_dir(workspace())
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string())
        .filter(|commit| !commit.is_empty())
        .unwrap_or_else(|| "unknown".into())
}

/// Makes [`peak_memory_mib`] count from now on, where the system can.
pub(crate) fn forget_peak_memory() {
    // Only Linux knows this file, and only there is the peak told.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The most memory that this process has had, in MiB; `None` where the system does not tell.
pub(crate) fn peak_memory_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib / 1024.0)
}
