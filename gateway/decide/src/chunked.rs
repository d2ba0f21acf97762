//! The chunked coding (RFC 9112 section 7.1), read strictly and written plainly.

/// A chunk's size has at most so many digits: as many as fit 64 bits.
const SIZE_DIGITS: u8 = 16;
/// The extensions of all chunks of a body may be so long together, in bytes. Nobody uses them but to flood.
const EXTENSION_BYTES: usize = 4 * 1024;

/// The last chunk. The trailer section follows, and ends with an empty line even when there is nothing in it.
pub const LAST_CHUNK: &[u8] = b"0\r\n";

/// Why a chunked body cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadChunk {
    /// Not one to sixteen hexadecimal digits, and nothing else before the extensions or the line's end.
    #[error("a chunk's size is not 1 to {SIZE_DIGITS} hexadecimal digits")]
    Size,
    /// A control byte in the extensions, or too many of them.
    #[error("a chunk's extensions contain a control byte, or are longer than {EXTENSION_BYTES} bytes in all")]
    Extension,
    /// Something else where CRLF must be.
    #[error("a chunk's size or data does not end with CRLF")]
    LineEnd,
}

/// Reads a chunked body while it comes.
#[derive(Debug, Clone)]
pub struct Decoder {
    state: State,
    extension_bytes: usize,
    /// Whether white space may follow a size.
    padded: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Size { size: u64, digits: u8 },
    Extension { size: u64 },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailers,
}

/// What follows the framing that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// More framing, which has not come yet.
    Framing,
    /// So many bytes of data, at least one. See [`Decoder::took`].
    Data(u64),
    /// The trailer section.
    Trailers,
}

impl Decoder {
    /// At the beginning of a body.
    pub fn new() -> Self {
        Decoder { state: START, extension_bytes: 0, padded: false }
    }

    /// At the beginning of an answer's body: some old servers pad the sizes to one width.
    pub fn of_answer() -> Self {
        Decoder { padded: true, ..Decoder::new() }
    }

    /// Reads the framing at the start of what has come. Returns how long it is, and what follows it.
    pub fn read(&mut self, input: &[u8]) -> Result<(usize, Next), BadChunk> {
        let mut read = 0;
        loop {
            let next = match self.state {
                State::Data { left } => Next::Data(left),
                State::Trailers => Next::Trailers,
                _ => match input.get(read) {
                    Some(byte) => {
                        self.state = self.step(*byte)?;
                        read += 1;
                        continue;
                    }
                    None => Next::Framing,
                },
            };
            return Ok((read, next));
        }
    }

    /// So many bytes of the data that [`Next::Data`] told of were taken.
    pub fn took(&mut self, bytes: u64) {
        if let State::Data { left } = &mut self.state {
            *left = left.saturating_sub(bytes);
            if *left == 0 {
                self.state = State::DataCr;
            }
        }
    }

    fn step(&mut self, byte: u8) -> Result<State, BadChunk> {
        match (self.state, byte) {
            (State::Size { size, digits }, _) if byte.is_ascii_hexdigit() && digits < SIZE_DIGITS => {
                Ok(State::Size { size: size << 4 | hex(byte), digits: digits + 1 })
            }
            (State::Size { size, digits: 1.. }, b';') => self.extend(size),
            (State::Size { size, digits: 1.. }, b' ' | b'\t') if self.padded => self.extend(size),
            (State::Size { size, digits: 1.. } | State::Extension { size }, b'\r') => Ok(State::SizeLf { size }),
            (State::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => self.extend(size),
            (State::SizeLf { size: 0 }, b'\n') => Ok(State::Trailers),
            (State::SizeLf { size }, b'\n') => Ok(State::Data { left: size }),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(START),
            (State::Size { .. }, _) => Err(BadChunk::Size),
            (State::Extension { .. }, _) => Err(BadChunk::Extension),
            _ => Err(BadChunk::LineEnd),
        }
    }

    fn extend(&mut self, size: u64) -> Result<State, BadChunk> {
        self.extension_bytes += 1;
        match self.extension_bytes <= EXTENSION_BYTES {
            true => Ok(State::Extension { size }),
            false => Err(BadChunk::Extension),
        }
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder::new()
    }
}

const START: State = State::Size { size: 0, digits: 0 };

fn hex(digit: u8) -> u64 {
    char::from(digit).to_digit(16).map_or(0, u64::from)
}

/// The line before a chunk's data.
#[derive(Debug, Clone, Copy)]
pub struct SizeLine {
    bytes: [u8; 18],
    start: usize,
}

impl SizeLine {
    /// For so many bytes of data; with none it would be the last chunk.
    pub fn new(mut size: u64) -> Self {
        const DIGITS: [u8; 16] = *b"0123456789abcdef";
        let mut line = SizeLine { bytes: [0; 18], start: 18 };
        line.put(b'\n');
        line.put(b'\r');
        loop {
            line.put(DIGITS.get((size & 15) as usize).copied().unwrap_or_default());
            size >>= 4;
            if size == 0 {
                return line;
            }
        }
    }

    /// The line, with its end.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    fn put(&mut self, byte: u8) {
        self.start = self.start.saturating_sub(1);
        if let Some(place) = self.bytes.get_mut(self.start) {
            *place = byte;
        }
    }
}

#[cfg(test)]
mod tests;
