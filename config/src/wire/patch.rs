//! What changes of a value, where sending that is shorter than sending the value: a JSON Merge Patch (RFC 7396).

use serde_json::{Map, Value};

use super::Json;

impl Json {
    /// What makes this of `older`. Nothing where no patch says it: not where a field is `null`, for that takes fields
    /// away (RFC 7396 section 1).
    pub fn patch_from(&self, older: &Json) -> Option<Json> {
        let (Ok(older), Ok(newer)) = (older.read(), self.read()) else { return None };
        difference(&older, &newer).flatten().map(Json::from)
    }

    /// The value with these changes.
    ///
    /// # Errors
    /// When one of both is no JSON; what travels is.
    pub fn patched(&self, patch: &Json) -> Result<Json, serde_json::Error> {
        let mut value = self.read()?;
        apply(&mut value, patch.read()?);
        Ok(Json::from(value))
    }
}

/// The patch from one to the other, if there is one; within it nothing where both are alike.
fn difference(older: &Value, newer: &Value) -> Option<Option<Value>> {
    let (Value::Object(before), Value::Object(now)) = (older, newer) else {
        return (older == newer).then_some(None).or_else(|| says_itself(newer).then(|| Some(newer.clone())));
    };
    let mut patch = Map::new();
    for (name, value) in now {
        let changed = match before.get(name) {
            Some(before) => difference(before, value)?,
            None => says_itself(value).then(|| Some(value.clone()))?,
        };
        patch.extend(changed.map(|changed| (name.clone(), changed)));
    }
    let gone = before.keys().filter(|name| !now.contains_key(*name));
    patch.extend(gone.map(|name| (name.clone(), Value::Null)));
    Some((!patch.is_empty()).then_some(Value::Object(patch)))
}

/// Whether a value may stand in a patch for itself.
fn says_itself(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Object(fields) => fields.values().all(says_itself),
        _ => true,
    }
}

/// RFC 7396 section 2.
fn apply(value: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *value = patch;
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Value::Object(fields) = value else { return };
    for (name, change) in patch {
        match change {
            Value::Null => drop(fields.remove(&name)),
            change => apply(fields.entry(name).or_insert(Value::Null), change),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), (0..3u8).prop_map(Value::from), Just(json!([null, 1]))];
        leaf.prop_recursive(3, 20, 3, |inner| {
            proptest::collection::btree_map("[abc]", inner, 0..3).prop_map(|map| json!(map))
        })
    }

    proptest! {
        #[test]
        fn a_patch_leads_from_one_to_the_other(older in value(), newer in value()) {
            let (old, new) = (Json::from(older.clone()), Json::from(newer.clone()));
            match new.patch_from(&old) {
                Some(patch) => prop_assert_eq!(old.patched(&patch).unwrap(), new),
                None => prop_assert!(older == newer || !says_itself(&newer)),
            }
        }
    }

    #[test]
    fn it_is_the_patch_of_the_standard() {
        let (old, new) = (json!({"a": {"b": 1, "c": 2}, "d": [1]}), json!({"a": {"c": 3, "e": 4}, "d": [1]}));
        let patch = Json::from(new.clone()).patch_from(&old.clone().into()).unwrap();
        assert_eq!(patch.read::<Value>().unwrap(), json!({"a": {"b": null, "c": 3, "e": 4}}));
        let patched = |value: Value, patch: Value| Json::from(value).patched(&patch.into()).unwrap().read::<Value>();
        assert_eq!(patched(json!({"a": "b"}), json!(["c"])).unwrap(), json!(["c"]));
        assert_eq!(patched(json!([1]), json!({"a": {"b": null, "c": 1}})).unwrap(), json!({"a": {"c": 1}}));
    }
}
