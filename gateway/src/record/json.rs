//! A JSON object, field after field. Names are ours and most texts are plain: only what is not goes through the library.

use std::fmt::Display;
use std::io::Write;

/// An object that is being written.
pub struct Object<'o> {
    out: &'o mut Vec<u8>,
    begun: bool,
}

impl<'o> Object<'o> {
    /// One without fields yet.
    pub fn begin(out: &'o mut Vec<u8>) -> Self {
        Object { out, begun: false }
    }

    /// That was all.
    pub fn end(self) {
        if !self.begun {
            self.out.push(b'{');
        }
        self.out.push(b'}');
    }

    /// A text, whatever it holds.
    pub fn text(&mut self, name: &'static str, text: &str) {
        self.name(name);
        put_text(self.out, text);
    }

    /// A text, if there is one.
    pub fn text_if(&mut self, name: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    /// Texts, if there are any.
    pub fn texts_if(&mut self, name: &'static str, texts: &[String]) {
        if texts.is_empty() {
            return;
        }
        self.name(name);
        for (index, text) in texts.iter().enumerate() {
            self.out.push(if index == 0 { b'[' } else { b',' });
            put_text(self.out, text);
        }
        self.out.push(b']');
    }

    /// A number.
    pub fn number(&mut self, name: &'static str, number: impl Into<u64>) {
        self.name(name);
        put_number(self.out, number.into());
    }

    /// What is so.
    pub fn yes(&mut self, name: &'static str) {
        self.name(name);
        self.out.extend_from_slice(b"true");
    }

    /// A text that is known to be plain, and shows itself.
    pub fn shown(&mut self, name: &'static str, value: impl Display) {
        self.name(name);
        // Writing into memory does not fail.
        _ = write!(self.out, "\"{value}\"");
    }

    fn name(&mut self, name: &'static str) {
        self.out.push(if self.begun { b',' } else { b'{' });
        self.begun = true;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return;
    }
    // Nor does this.
    _ = serde_json::to_writer(out, text);
}

/// In decimal. A line has seven numbers: worth a way without the formatter of everything.
fn put_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut unused = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        unused -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(unused..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn written(fields: impl FnOnce(&mut Object<'_>)) -> Value {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        fields(&mut object);
        object.end();
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn an_object_may_have_any_fields_or_none() {
        assert_eq!(written(|_| ()), json!({}));
        let all = |object: &mut Object<'_>| {
            object.number("a", 1_u8);
            object.yes("b");
            object.text_if("c", None);
            object.texts_if("d", &[]);
            object.texts_if("e", &["x".to_owned(), "\"".to_owned()]);
            object.shown("f", 2);
        };
        assert_eq!(written(all), json!({ "a": 1, "b": true, "e": ["x", "\""], "f": "2" }));
    }

    proptest! {
        #[test]
        fn every_number_comes_back(number in any::<u64>(), fewer in 0..64) {
            for number in [number, number >> fewer] {
                prop_assert_eq!(written(|object| object.number("number", number)), json!({ "number": number }));
            }
        }

        #[test]
        fn every_text_comes_back(text in any::<String>()) {
            prop_assert_eq!(written(|object| object.text("text", &text)), json!({ "text": text }));
        }
    }
}
