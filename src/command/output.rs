//! The one place that writes to standard output.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use anyhow::{Context, Result};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How data is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

/// Prints data as it was asked for.
///
/// # Errors
/// When standard output cannot be written.
pub fn show(format: Format, data: &impl Serialize, table: impl FnOnce() -> String) -> Result<()> {
    match format {
        Format::Table => print(table()),
        Format::Yaml => print(yaml(data)?),
        Format::Json => json(data),
    }
}

/// Prints data as JSON.
///
/// # Errors
/// When standard output cannot be written.
pub fn json(data: &impl Serialize) -> Result<()> {
    print(format_args!("{}\n", serde_json::to_string_pretty(data)?))
}

/// Data as YAML, whose last line ends.
///
/// # Errors
/// When the data has no such form.
pub fn yaml(data: &impl Serialize) -> Result<String> {
    Ok(format!("{}\n", serde_saphyr::to_string(data)?.trim_end()))
}

/// Prints text as it is. Whoever stops reading early, as `head` does, has had enough, and that is no error.
///
/// # Errors
/// When standard output cannot be written.
pub fn print(text: impl Display) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match write!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// Tells people something that is no data, on standard error. If even that is closed, nobody wants to know.
pub fn note(text: impl Display) {
    _ = writeln!(io::stderr(), "{text}");
}

/// A moment, given in seconds since 1970, as RFC 3339 writes it; nothing for one that no calendar has.
pub fn date(seconds: i64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp(seconds).ok();
    moment.and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_default()
}

/// Text from elsewhere without what could move the cursor or play tricks on a terminal.
pub fn printable(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().map(printable).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use config::manifest::{Defaults, read};
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_is_read_back_as_it_was() {
        let pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        let manifest = json!({
            "apiVersion": "tombolo.dev/v1alpha1",
            "kind": "Certificate",
            "metadata": {"name": "web", "labels": {"on": "yes", "number": "1e3", "empty": "", "odd": "a: b # c\n\t\u{7}"}},
            "spec": {"globalNamespace": "shop", "certificate": pem, "secretRef": {"keySha256": "ab".repeat(32)}},
        });
        let text = yaml(&manifest).unwrap();
        assert!(text.contains("certificate: |\n"), "{text}");
        assert_eq!(serde_saphyr::from_str::<serde_json::Value>(&text).unwrap(), manifest, "{text}");
        let list = yaml(&json!({"kind": "List", "items": [manifest]})).unwrap();
        // The certificate is not one, and that is all that is wrong with it.
        let errors = read(&list, "list", &Defaults::default()).err().unwrap_or_default();
        assert!(errors.iter().all(|error| error.fault.path == "spec.certificate"), "{errors:?}\n{list}");
    }

    #[test]
    fn a_terminal_is_told_nothing_but_text() {
        assert_eq!(printable("a\u{1b}[2J\nb\r\n"), "a [2J b");
    }
}
