//! The machine that a run was trained on.

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
