//! Processes of a demo that are gone for a while: killed, and started again as they were.

use super::demo::Demo;
use super::process::{Process, arguments, signal};

/// Those that are away.
pub struct Away {
    names: Vec<(String, Vec<String>)>,
    folder: std::path::PathBuf,
}

impl Away {
    /// Kills processes, by their names in [`Demo::pids`]: each stands for one.
    pub fn kill(demo: &Demo, names: &[&str]) -> Away {
        let pids: Vec<u32> = names.iter().map(|name| demo.pids(name)[0]).collect();
        let arguments = pids.iter().map(|pid| arguments(*pid));
        let names = names.iter().map(|name| (*name).to_owned()).zip(arguments).collect();
        signal("KILL", &pids);
        Away { names, folder: demo.state.clone() }
    }

    /// Starts them again. They run until what is returned is dropped.
    pub fn back(self) -> Vec<Process> {
        let log = |name: &str| self.folder.join(format!("{name}-again.log"));
        self.names.iter().map(|(name, arguments)| Process::start(arguments, &log(name))).collect()
    }
}
