//! A JSON object, field after field. Names are ours and most texts are plain: only what is not goes through the library.

use std::fmt::Display;
use std::io::{self, Write};

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
    pub fn text(&mut self, name: &'static str, text: &str) -> io::Result<()> {
        self.name(name);
        put_text(self.out, text)
    }

    /// A text, if there is one.
    pub fn text_if(&mut self, name: &'static str, text: Option<&str>) -> io::Result<()> {
        text.map_or(Ok(()), |text| self.text(name, text))
    }

    /// Texts, if there are any.
    pub fn texts_if(&mut self, name: &'static str, texts: &[String]) -> io::Result<()> {
        if texts.is_empty() {
            return Ok(());
        }
        self.name(name);
        for (index, text) in texts.iter().enumerate() {
            self.out.push(if index == 0 { b'[' } else { b',' });
            put_text(self.out, text)?;
        }
        self.out.push(b']');
        Ok(())
    }

    /// What shows itself as a number, or as true or false.
    pub fn bare(&mut self, name: &'static str, value: impl Display) -> io::Result<()> {
        self.name(name);
        write!(self.out, "{value}")
    }

    fn name(&mut self, name: &'static str) {
        self.out.push(if self.begun { b',' } else { b'{' });
        self.begun = true;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) -> io::Result<()> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return Ok(());
    }
    Ok(serde_json::to_writer(out, text)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn written(fields: impl FnOnce(&mut Object<'_>) -> io::Result<()>) -> Value {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        fields(&mut object).unwrap();
        object.end();
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn an_object_may_have_any_fields_or_none() {
        assert_eq!(written(|_| Ok(())), json!({}));
        let all = |object: &mut Object<'_>| {
            object.bare("a", 1_u64)?;
            object.bare("b", true)?;
            object.text_if("c", None)?;
            object.texts_if("d", &[])?;
            object.texts_if("e", &["x".to_owned(), "\"".to_owned()])
        };
        assert_eq!(written(all), json!({ "a": 1, "b": true, "e": ["x", "\""] }));
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in any::<String>()) {
            prop_assert_eq!(written(|object| object.text("text", &text)), json!({ "text": text }));
        }
    }
}
