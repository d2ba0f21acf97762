//! What a process takes, by proc(5).

use std::time::Duration;

/// CPU time so far, in steps of 10 ms (fields 14 and 15 of `stat`, in ticks).
pub fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    Duration::from_millis((fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10)
}

/// Memory now and at its peak, in MiB.
fn memory(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let of = |field: &str| {
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    (of("VmRSS:"), of("VmHWM:"))
}

/// All of it, for people.
pub fn said(pid: u32) -> String {
    let (now, peak) = memory(pid);
    format!("{now} MiB, at its peak {peak} MiB; {:?} CPU so far", cpu(pid))
}
