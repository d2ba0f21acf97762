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
        let length = self.head()?;
        let read = std::io::copy(&mut self.0.by_ref().take(length), &mut std::io::sink())?;
        anyhow::ensure!(read == length, "the answer was cut");
        Ok(())
    }

    /// Reads a head; the length of the body that follows.
    fn head(&mut self) -> anyhow::Result<u64> {
        let (mut line, mut length) = (String::new(), None);
        self.0.read_line(&mut line)?;
        anyhow::ensure!(line.starts_with("HTTP/1.1 200 "), "answered {:?}", line.trim_end());
        loop {
            line.clear();
            anyhow::ensure!(self.0.read_line(&mut line)? > 0, "the head was cut");
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = Some(value.trim().parse()?)
                }
                Some(_) => {}
                None => return length.context("an answer without a length"),
            }
        }
    }
}
