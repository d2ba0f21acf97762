//! `tombolo restore`: a controller's database from a backup.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use controller::audit::{AuditLog, Entry};
use controller::store::{Contents, EmbeddedStore, Store};
use time::OffsetDateTime;

use super::output::note;

/// Makes a controller's database from a backup, while no controller runs there. The backup is checked first, and a
/// database that is there is kept beside the new one.
#[derive(clap::Args)]
pub struct Args {
    /// The backup
    file: PathBuf,
    /// The controller's state directory
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Take the place of the database that is there
    #[arg(long)]
    replace: bool,
}

/// Reads, checks and writes.
pub fn run(args: &Args) -> Result<ExitCode> {
    let file = args.file.display();
    let backup = std::fs::read(&args.file).with_context(|| format!("cannot read {file}"))?;
    let contents = Contents::of_backup(&backup).with_context(|| format!("{file} was not restored"))?;
    let database = args.state.join("controller.redb");
    if database.exists() && !args.replace {
        bail!("{} is there: to put the backup in its place, give --replace", database.display());
    }
    let from = contents.history.head();
    let restored = contents.restored(OffsetDateTime::now_utc().unix_timestamp(), known(&args.state));
    let head = restored.history.head();
    DirBuilder::new().recursive(true).mode(0o700).create(&args.state)?;
    let audit = AuditLog::open(args.state.join("audit.log"))?;
    let entry =
        |what: &str| Entry::new("tombolo restore", what).on(&file).detail("from", from).detail("revision", head);
    audit.record(&entry("restore"))?;
    let replaced = EmbeddedStore::replace(&args.state, &restored);
    if let Err(error) = &replaced {
        audit.record(&entry("restore.failed").detail("error", error))?;
    }
    if let Some(replaced) = replaced? {
        note(format_args!("the database that was there is {}", replaced.display()));
    }
    note(format_args!("restored revision {from}, as revision {head}"));
    let key = args.state.join("vault.key");
    if !key.exists() {
        let key = key.display();
        note(format_args!("put the key that seals it to {key}, or give the controller the sealing key that it had"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The newest revision of the database that is there: it may be beyond that of the backup by any number, if a backup was
/// restored before. One that cannot be read doesn't say.
fn known(state: &Path) -> u64 {
    if !state.join("controller.redb").exists() {
        return 0;
    }
    EmbeddedStore::open(state).and_then(|store| store.head()).unwrap_or_default()
}
