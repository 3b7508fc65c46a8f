//! The machine that a run was trained on, and the process that trains it.

use faceoff_runs::Machine;
use sysinfo::System;

/// What the manifest says of this machine.
pub fn describe_machine() -> Machine {
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

/// Who works on a run, for other processes that wait for it: `process 4711 on node7`.
pub(crate) fn describe_process() -> String {
    format!("process {} on {}", std::process::id(), System::host_name().unwrap_or_else(|| "another machine".into()))
}
