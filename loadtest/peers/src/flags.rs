//! Flags, all of the form `--name=value`.

use std::collections::HashMap;
use std::error::Error;
use std::str::FromStr;

use anyhow::Context;

/// The flags that a program was given.
pub struct Flags(HashMap<String, String>);

impl Flags {
    /// Reads a program's arguments.
    ///
    /// # Errors
    /// One that is no flag, or has no value.
    pub fn read(arguments: impl Iterator<Item = String>) -> anyhow::Result<Flags> {
        let pair = |argument: String| {
            let pair = argument.strip_prefix("--").and_then(|rest| rest.split_once('='));
            let (name, value) = pair.with_context(|| format!("{argument}: want --name=value"))?;
            Ok((name.to_owned(), value.to_owned()))
        };
        arguments.map(pair).collect::<anyhow::Result<_>>().map(Flags)
    }

    /// A flag that may be absent.
    ///
    /// # Errors
    /// Its value cannot be read.
    pub fn get<T: FromStr<Err: Error + Send + Sync + 'static>>(&self, name: &str) -> anyhow::Result<Option<T>> {
        let read = |value: &String| value.parse().with_context(|| format!("--{name}={value}"));
        self.0.get(name).map(read).transpose()
    }

    /// A flag that must be there.
    ///
    /// # Errors
    /// It is absent, or its value cannot be read.
    pub fn need<T: FromStr<Err: Error + Send + Sync + 'static>>(&self, name: &str) -> anyhow::Result<T> {
        self.get(name)?.with_context(|| format!("--{name}=… is missing"))
    }
}
