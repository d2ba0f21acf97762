//! `tombolo certs`.

use std::process::ExitCode;

use anyhow::Result;
use config::resource::Name;
use controller::global::{CertificateRow, CertificatesStatus, Rotation, TrustRow};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::api::Api;
use super::super::context;
use super::super::output::{Format, show};
use super::super::table::Table;

/// So much of a serial number or a digest is shown in tables: enough to tell them apart.
const SHOWN: usize = 16;

/// The flags.
#[derive(clap::Args)]
pub struct Flags {
    /// Those of one global namespace only
    #[arg(long = "gns", value_name = "NAME")]
    global_namespace: Option<Name>,
    /// How it is shown
    #[arg(short, long, value_enum, default_value_t, value_name = "table|yaml|json", hide_possible_values = true)]
    output: Format,
    #[command(flatten)]
    context: context::ContextArgs,
}

/// Asks and shows.
pub async fn run(args: Flags) -> Result<ExitCode> {
    let mut status = Api::open(&args.context)?.certificates().await?;
    if let Some(gns) = &args.global_namespace {
        status.certificates.retain(|row| row.global_namespace.as_ref() == Some(gns));
        status.rotations.retain(|rotation| rotation.global_namespace.as_ref() == Some(gns));
        status.trust.retain(|row| row.global_namespace.as_ref() == Some(gns));
    }
    show(args.output, &status, || text(&status))?;
    Ok(ExitCode::SUCCESS)
}

fn text(status: &CertificatesStatus) -> String {
    let CertificatesStatus { certificates: rows, rotations, trust } = status;
    format!("{}\n{}{}", certificates(rows), roots(trust), self::rotations(rotations))
}

fn certificates(rows: &[CertificateRow]) -> String {
    let head =
        ["LEVEL", "GNS", "HOLDER", "SERIAL", "ISSUER", "NOT BEFORE", "NOT AFTER", "RENEWS", "SPIFFE ID OR SUBJECT"];
    let mut table = Table::new(head);
    for row in rows {
        let [from, until, renews] = [row.not_before, row.not_after, row.renews].map(moment);
        let issuer = if row.issuer == row.serial { "itself" } else { short(&row.issuer) };
        let (level, gns) = (row.level.to_string(), gns(row.global_namespace.as_ref()));
        table.row([&level, gns, &row.holder, short(&row.serial), issuer, &from, &until, &renews, &row.subject]);
    }
    table.to_string()
}

fn roots(rows: &[TrustRow]) -> String {
    let mut table = Table::new(["GNS", "ROOT SHA-256", "SIGNS", "BELIEVED BY", "CERTIFICATES BELOW IT"]);
    for row in rows {
        let signs = if row.signing { "yes" } else { "no" };
        let (believed, held) = (row.believed_by.join(", "), row.held_by.join(", "));
        table.row([gns(row.global_namespace.as_ref()), short(&row.root), signs, &believed, &held]);
    }
    table.to_string()
}

fn rotations(rotations: &[Rotation]) -> String {
    if rotations.is_empty() {
        return String::new();
    }
    format!("\n{}", table_of(rotations))
}

/// What is being replaced, and for whom it waits.
pub fn table_of(rotations: &[Rotation]) -> String {
    let mut table = Table::new(["REPLACING", "GNS", "PHASE", "SINCE", "WAITS FOR"]);
    for rotation in rotations {
        let (level, phase) = (rotation.level.to_string(), rotation.phase.to_string());
        let since = rotation.since.map(moment).unwrap_or_default();
        let gns = gns(rotation.global_namespace.as_ref());
        table.row([&level, gns, &phase, &since, &rotation.waiting.join(", ")]);
    }
    table.to_string()
}

fn gns(name: Option<&Name>) -> &str {
    name.map(Name::as_str).unwrap_or_default()
}

fn short(digits: &str) -> &str {
    digits.get(..SHOWN).unwrap_or(digits)
}

fn moment(seconds: i64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp(seconds).ok();
    moment.and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn the_chain_and_what_holds_it_up_are_told() {
        let root = "ab".repeat(32);
        let row = |level: &str, holder: &str, serial: &str, issuer: &str| {
            json!({"level": level, "globalNamespace": "shop", "holder": holder, "serial": serial, "issuer": issuer,
                "subject": "spiffe://x", "notBefore": 0, "notAfter": 86_400, "renews": 57_600})
        };
        let status: CertificatesStatus = from_value(json!({
            "certificates": [row("gns", "controller", "aa", "aa"), row("leaf", "west/a", "bb", "cc")],
            "trust": [{"globalNamespace": "shop", "root": root, "signing": true, "believedBy": ["west/a"], "heldBy": []}],
            "rotations": [{"level": "gns", "globalNamespace": "shop", "phase": "prove", "since": 0, "waiting": ["west/b"]}],
        }))
        .unwrap();
        let text = text(&status);
        let line = |with: &str| text.lines().find(|line| line.contains(with)).unwrap().to_owned();
        assert!(line("controller").contains("itself"), "{text}");
        assert!(line("west/a ").contains("cc") && text.contains("1970-01-01T16:00:00Z"), "{text}");
        assert!(line("yes").contains("abababababababab  yes"), "{text}");
        assert!(line("prove").ends_with("west/b"), "{text}");
    }
}
