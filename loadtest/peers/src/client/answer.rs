//! One request and its answer, over whatever carries them.

use std::io::{BufRead, BufReader, Read, Write};

use anyhow::Context;

/// A connection over which requests go, one after another.
pub struct Connection<S: Read + Write>(BufReader<S>);

impl<S: Read + Write> Connection<S> {
    /// Over that.
    pub fn new(stream: S) -> Self {
        Connection(BufReader::new(stream))
    }

    /// What carries it.
    pub fn get(&self) -> &S {
        self.0.get_ref()
    }

    /// Sends the request and reads the whole answer.
    ///
    /// # Errors
    /// The connection ends before, or the answer isn't 200.
    pub fn ask(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.0.get_mut().write_all(request)?;
        self.0.get_mut().flush()?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            anyhow::ensure!(self.0.read_line(&mut head)? > 0, "the head was cut");
        }
        let length = body_length(&head)?;
        let read = std::io::copy(&mut self.0.by_ref().take(length), &mut std::io::sink())?;
        anyhow::ensure!(read == length, "the answer was cut");
        Ok(())
    }
}

/// How long the body is that follows the head of an answer.
///
/// # Errors
/// The answer isn't 200, or doesn't say.
pub fn body_length(head: &str) -> anyhow::Result<u64> {
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    anyhow::ensure!(status.starts_with("HTTP/1.1 200"), "answered {status:?}");
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let (_, value) =
        fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length")).context("an answer without a length")?;
    Ok(value.trim().parse()?)
}
