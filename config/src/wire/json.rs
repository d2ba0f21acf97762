//! A value that is passed on unread.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// A value as JSON text, in one form for each value: keys in order, nothing between. As a tree it would take about ten
/// times the memory, and each process holds thousands. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Json(Arc<RawValue>);

impl Json {
    /// The text of anything that has one.
    ///
    /// # Errors
    /// When it has none: a map whose keys are no text, say.
    pub fn of(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(Json::from(serde_json::to_value(value)?))
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it says something else than what it is read as.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.as_str())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Whether both are the same in memory, too.
    pub fn is(&self, other: &Json) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.is(other) || self.as_str() == other.as_str()
    }
}

impl Eq for Json {}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        // A value's own text is always JSON: that it isn't cannot happen, and would be refused wherever it is read.
        let raw = serde_json::value::to_raw_value(&value).unwrap_or_else(|_| RawValue::NULL.to_owned());
        Json(Arc::from(raw))
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    /// By way of a tree: messages are tagged, and what is read behind a tag has no text any more.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Json::from)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn one_form_for_each_value() {
        let read: Json = serde_json::from_str(r#" {"b": [1, 2.5, "x\u0041"], "a": null} "#).unwrap();
        assert_eq!(read.as_str(), r#"{"a":null,"b":[1,2.5,"xA"]}"#);
        assert_eq!(read, Json::from(json!({"b": [1, 2.5, "xA"], "a": null})));
        assert_eq!(serde_json::to_string(&[&read]).unwrap(), format!("[{}]", read.as_str()));
        assert_eq!(read.read::<Value>().unwrap(), json!({"a": null, "b": [1, 2.5, "xA"]}));
    }
}
