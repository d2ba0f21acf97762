//! The exit codes of commands that find out whether something works: scripts must tell what is broken from what nobody
//! could ask about.

use std::process::ExitCode;

use anyhow::Result;
use config::explain::{Explanation, Verdict};

use crate::cli;

/// As the help of these commands has them.
pub const CODES: &str = "Exit codes:\n  0  requests get through\n  1  a step fails\n  2  the question could not be put, or makes no sense\n  4  it was put, but a step cannot be told";

/// When a step fails.
const BROKEN: u8 = 1;
/// When the question could not be put, as with a command line that is not understood.
const UNASKED: u8 = 2;
/// When it was put, but of some step nobody can tell.
const UNKNOWN: u8 = 4;

/// Shows what was found, or why nobody could be asked, and ends with the code for it.
///
/// # Errors
/// When it cannot be shown.
pub fn conclude(found: Result<Explanation>, show: impl FnOnce(&Explanation) -> Result<()>) -> Result<ExitCode> {
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            cli::complain(&error);
            return Ok(ExitCode::from(UNASKED));
        }
    };
    show(&found)?;
    Ok(match found.verdict {
        Verdict::Ok | Verdict::Impaired => ExitCode::SUCCESS,
        Verdict::Failed => ExitCode::from(BROKEN),
        Verdict::Unknown => ExitCode::from(UNKNOWN),
    })
}
