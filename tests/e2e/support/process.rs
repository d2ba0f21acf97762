//! Processes of the binary. They hang on this process's pipe, so that none outlives the tests, however they end.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::DEADLINE;

/// The binary under test.
pub const TOMBOLO: &str = env!("CARGO_BIN_EXE_tombolo");

/// A running process, stopped when dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the binary; what it says goes to the file.
    pub fn start<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>, log: &Path) -> Process {
        let mut command = Command::new(TOMBOLO);
        command.args(args);
        Process::spawn(command, log)
    }

    /// Starts any command, which must heed the lifeline.
    pub fn spawn(mut command: Command, log: &Path) -> Process {
        let out = File::create(log).unwrap();
        command.env("TOMBOLO_LIFELINE", "stdin").env_remove("TOMBOLO_CONTEXT").env_remove("TOMBOLO_JOIN_TOKEN");
        command.stdin(Stdio::piped()).stdout(out.try_clone().unwrap()).stderr(out);
        // A Ctrl-C at the terminal ends the tests, whose end then ends this, in its own way.
        let child = command.process_group(0).spawn().unwrap();
        Process { child, log: log.to_owned() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(began.elapsed() < DEADLINE, "it did not end; it said:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks it to end, by letting its lifeline go; and makes it, if it doesn't.
    pub fn stop(&mut self) {
        drop(self.child.stdin.take());
        let began = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && began.elapsed() < Duration::from_secs(15) {
            std::thread::sleep(Duration::from_millis(20));
        }
        _ = self.child.kill();
        _ = self.child.wait();
    }

    /// Removes what it said.
    pub fn forget(&self) {
        _ = std::fs::remove_file(&self.log);
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sends a signal (`KILL`, `STOP`, `CONT`, `INT`) to processes that the demo started; what is killed is gone then, and
/// its ports are free.
pub fn signal(name: &str, pids: &[u32]) {
    let list = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    // The shell's own `kill`: a bare machine has no other.
    let done = Command::new("sh").arg("-c").arg(format!("kill -{name} {list}")).status().unwrap();
    assert!(done.success(), "kill -{name} {list}: {done}");
    let began = Instant::now();
    while name == "KILL" && pids.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
        assert!(began.elapsed() < DEADLINE, "{list}: killed, but not gone");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The command line of a running process, without the program.
pub fn arguments(pid: u32) -> Vec<String> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    line.split_terminator('\0').skip(1).map(str::to_owned).collect()
}

/// A command line with these flags, in the place of those of the same name.
pub fn with_flags(arguments: &[String], flags: &[&str]) -> Vec<String> {
    let name = |argument: &str| argument.split('=').next().map(str::to_owned);
    let kept = arguments.iter().filter(|argument| !flags.iter().any(|flag| name(flag) == name(argument)));
    kept.cloned().chain(flags.iter().map(|flag| (*flag).to_owned())).collect()
}

/// Whether a process runs, and not only waits to be reaped.
pub fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}
