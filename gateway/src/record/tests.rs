#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use config::resource::Host;
use serde_json::Value;

use super::line::{Fields, LONGEST_TEXT, TurnedAway};
use super::*;
use crate::exchange::Door;
use crate::metrics::Metrics;
use crate::settings::AccessLog;

const GUIDE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guides/observability.md"));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A log that is kept in a file, and what was written to it once it is closed.
struct Kept {
    log: Log,
    metrics: Arc<Metrics>,
    file: tempfile::NamedTempFile,
}

impl Kept {
    fn open() -> Kept {
        let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let file = tempfile::NamedTempFile::new().unwrap();
        let log = Log::open(&AccessLog::File(file.path().into()), metrics.clone()).unwrap();
        Kept { log, metrics, file }
    }

    async fn text(&self) -> String {
        self.log.close().await;
        std::fs::read_to_string(self.file.path()).unwrap()
    }

    async fn lines(&self) -> Vec<Value> {
        self.text().await.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// What is read out of a line.
fn value(line: &impl Fields) -> Value {
    let mut room = Vec::new();
    line::write(line, &mut room);
    serde_json::from_slice(&room).unwrap()
}

fn head(path: &[u8]) -> RequestHeader {
    RequestHeader::build("GET", path, None).unwrap()
}

fn record(head: &RequestHeader, kept: bool) -> Record {
    let sni: Host = "shop.example".parse().unwrap();
    let entry = Entry::new(Door::PublicHttps { sni }, CLIENT, 443);
    Record::new(head, &entry, kept)
}

/// One that has been through everything that leaves a field.
fn full() -> Record {
    let mut head = head(b"/");
    head.insert_header("host", "www.example").unwrap();
    head.insert_header("user-agent", "curl").unwrap();
    let mut record = record(&head, true);
    record.source("spiffe://shop.mesh/cluster/north/ns/shop/svc/cart");
    record.service(&"shop".parse().unwrap(), &"cart".parse().unwrap());
    record.attempt();
    record.failure(&"north/v1/127.0.0.1:1", &"refused");
    record.status(200);
    record.served_by("north/v1/127.0.0.1:2");
    record.refusal(Refusal::InstanceReset);
    record
}

/// The names in the first column of the first table after this text.
fn documented(after: &str) -> BTreeSet<String> {
    let (_, section) = GUIDE.split_once(after).unwrap();
    let table = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let names = table.filter_map(|row| row.split('|').nth(1)).flat_map(|cell| cell.split('`').skip(1).step_by(2));
    names.map(str::to_owned).collect()
}

fn fields(line: &Value) -> BTreeSet<String> {
    line.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn the_guide_lists_exactly_the_fields_that_there_are() {
    let request = value(&full().line);
    assert_eq!(fields(&request), documented("\n## Access log\n"));
    let connection = value(&TurnedAway::new("https", CLIENT, "no_request", &"", 1));
    assert_eq!(fields(&connection), documented("\n### Refused connections\n"));
}

#[tokio::test]
async fn a_flood_of_refused_connections_is_counted_but_not_written() {
    let kept = Kept::open();
    (0..5_000).for_each(|_| kept.log.turned_away("https", CLIENT, "no_request", &""));
    // A slow machine may take longer than the window for these; then the flood was slower, and some more may be written.
    let lines = kept.lines().await.len();
    assert!((1_000..5_000).contains(&lines), "{lines}");
}

#[tokio::test]
async fn closing_writes_what_waits() {
    let kept = Kept::open();
    let head = head(format!("/{}", "x".repeat(2 * LONGEST_TEXT)).as_bytes());
    (0..100).for_each(|_| kept.log.write(record(&head, true)));
    let lines = kept.lines().await;
    assert_eq!(lines.len(), 100);
    assert_eq!(lines[0]["path"].as_str().unwrap().len(), LONGEST_TEXT);
    kept.log.write(record(&head, true));
    assert_eq!(kept.metrics.log_drops.get(), 1);
}

#[test]
fn what_is_replaced_does_not_make_a_text_longer() {
    for texts in [[0xff; LONGEST_TEXT], [0x7f; LONGEST_TEXT]] {
        let text = shorten(&texts);
        assert!((LONGEST_TEXT - 2..=LONGEST_TEXT).contains(&text.len()), "{}", text.len());
    }
}

#[tokio::test]
async fn whatever_bytes_come_each_line_stays_one_and_no_terminal_obeys_it() {
    let kept = Kept::open();
    let hostile = "a\"},{\"status\":200}\r\n{\"forged\":1}\u{1b}[2J\u{9b}2J\u{7f}\u{2028}\u{202e}\\\0";
    for texts in [hostile.as_bytes(), &[0xff, 0xfe, b'\n', 0xc2], &(0..=255).collect::<Vec<u8>>()] {
        let mut head = head(b"/");
        for name in ["host", "user-agent", "x-request-id", "traceparent"] {
            // What can't be a header's value at all can't come in either.
            let value: Vec<u8> = texts.iter().copied().filter(|byte| *byte >= b' ' && *byte != 0x7f).collect();
            head.insert_header(name, value).unwrap();
        }
        head.set_raw_path(texts).unwrap_or_default();
        let mut record = record(&head, true);
        record.failure(&"peer", &String::from_utf8_lossy(texts));
        record.served_by(&String::from_utf8_lossy(texts));
        kept.log.write(record);
        kept.log.turned_away("https", CLIENT, "unknown_name", &String::from_utf8_lossy(texts));
    }
    let text = kept.text().await;
    assert_eq!(text.lines().count(), 6, "{text}");
    assert!(!text.contains(|char: char| char != '\n' && char.is_control() || char == '\u{202e}'), "{text:?}");
    for line in text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        assert!(line.get("forged").is_none() && line["client"] == "127.0.0.1", "{line}");
    }
}

#[test]
fn what_is_not_kept_holds_no_text() {
    let line = record(&head(b"/some/path"), false).line;
    assert!(!value(&line).to_string().contains("/some/path"), "{line:?}");
    assert_eq!(line.failures.capacity(), 0);
}

#[test]
fn texts_keep_to_their_fields_and_the_last_who_served_counts() {
    let mut record = full();
    record.served_by("south/v1/127.0.0.1:3");
    let line = value(&record.line);
    for (field, text) in [("method", "GET"), ("host", "www.example"), ("path", "/"), ("user_agent", "curl")] {
        assert_eq!(line[field], text);
    }
    assert_eq!(line["served_by"], "south/v1/127.0.0.1:3");
}

#[test]
fn an_answer_that_was_broken_off_is_told_from_a_refusal() {
    let mut refused = record(&head(b"/"), true);
    refused.refusal(Refusal::NoInstance);
    refused.status(503);
    assert!(!refused.line.cut && full().line.cut);
}
