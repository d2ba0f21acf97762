//! Processes whose wall clock is off: a few lines of C stand between them and the system's.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{Process, TOMBOLO};

/// A wall clock of its own, for processes that are started with it.
pub struct Clock {
    library: PathBuf,
    shift: PathBuf,
}

impl Clock {
    /// One that is right, so far. Its files are in this folder, under that name.
    pub fn new(folder: &Path, name: &str) -> Clock {
        let file = |ending: &str| folder.join(format!("{name}.{ending}"));
        let (source, library, shift) = (file("c"), file("so"), file("shift"));
        std::fs::write(&source, include_str!("clock.c")).unwrap();
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).status();
        assert!(built.expect("a C compiler, `cc`, is needed for this test").success());
        let clock = Clock { library, shift };
        std::fs::write(&clock.shift, 0i64.to_ne_bytes()).unwrap();
        clock
    }

    /// From now on it is ahead by so many seconds, or behind.
    pub fn set(&self, seconds: i64) {
        // In place: processes have mapped the file.
        let mut file = std::fs::OpenOptions::new().write(true).open(&self.shift).unwrap();
        file.write_all(&seconds.to_ne_bytes()).unwrap();
    }

    /// Starts the binary with this clock.
    pub fn start(&self, args: &[String], log: &Path) -> Process {
        let mut command = Command::new(TOMBOLO);
        command.args(args).env("LD_PRELOAD", &self.library).env("CLOCK_SHIFT", &self.shift);
        Process::spawn(command, log)
    }
}
