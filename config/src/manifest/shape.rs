//! Checks a manifest against its kind's schema: fields, types, words, and the texts that have a form of their own.
//!
//! A derived parser stops at its first error and doesn't say where it stands. This goes on, and names every place.

use std::net::IpAddr;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::resource::cluster::Cidr;
use crate::resource::{Address, Host, HostPattern, Kind, Name, Span};
use crate::schema;
use crate::validate::Fault;

use super::{path, suggest, unsupported};

/// Everything in which the manifest differs from what its kind's schema allows.
pub(super) fn faults(kind: Kind, manifest: &Value) -> Vec<Fault> {
    let mut walk = Walk { kind, faults: Vec::new() };
    walk.named(&format!("{kind}Manifest"), manifest, "");
    walk.faults
}

struct Walk {
    kind: Kind,
    faults: Vec<Fault>,
}

impl Walk {
    fn add(&mut self, path: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.faults.push(Fault { path: path.to_owned(), what: what.into(), remedy: remedy.into() });
    }

    /// What stands under a name in the schema, and that texts of that name have a form of their own.
    fn named(&mut self, name: &str, value: &Value, path: &str) {
        if let Some(definition) = schema::definition(name) {
            self.value(definition, value, path);
        }
        if let Some((what, remedy)) = value.as_str().and_then(|text| form_fault(name, text)) {
            self.add(path, what, remedy);
        }
    }

    fn value(&mut self, schema: &Value, value: &Value, path: &str) {
        if let Some(name) = reference(schema) {
            return self.named(name, value, path);
        }
        if let Some(present) = optional(schema) {
            if !value.is_null() {
                self.value(present, value, path);
            }
            return;
        }
        let types = types(schema);
        if !types.is_empty() && !types.iter().any(|wanted| is_of(value, wanted)) {
            let what = format!("{} stands here", described(value));
            return self.add(path, what, format!("write {}", wanted(schema, &types)));
        }
        match value {
            Value::String(text) => self.text(schema, text, path),
            Value::Number(_) => self.range(schema, value, path),
            Value::Object(fields) => self.object(schema, fields, path),
            Value::Array(items) => {
                let Some(schema) = schema.get("items") else { return };
                items.iter().enumerate().for_each(|(i, item)| self.value(schema, item, &path::item(path, i)));
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn text(&mut self, schema: &Value, text: &str, path: &str) {
        let known = words(schema);
        if !known.is_empty() && !known.contains(&text) {
            let all = known.into_iter().chain(alternatives(schema).filter_map(tag));
            self.add(path, format!("{} is not known here", shown(text)), suggest::remedy(text, all));
        }
        let ip = schema.get("format").and_then(Value::as_str) == Some("ip");
        if ip && IpAddr::from_str(text).is_err() {
            self.add(path, format!("{} is not an IP address", shown(text)), "write one, as in 192.0.2.7");
        }
    }

    fn range(&mut self, schema: &Value, value: &Value, path: &str) {
        let most = match schema.get("format").and_then(Value::as_str) {
            Some("uint16") => u64::from(u16::MAX),
            Some("uint32") => u64::from(u32::MAX),
            _ => u64::MAX,
        };
        if value.as_u64().is_none_or(|number| number > most) {
            self.add(path, format!("{value} is out of range"), format!("write a whole number from 0 to {most}"));
        }
    }

    fn object(&mut self, schema: &Value, fields: &Map<String, Value>, path: &str) {
        let known =
            |key: &str| properties(schema).chain(alternatives(schema).flat_map(properties)).find(|p| p.0 == key);
        for (key, value) in fields {
            let at = path::field(path, key);
            match (known(key), schema.get("additionalProperties")) {
                (Some((_, schema)), _) => self.value(schema, value, &at),
                (None, Some(schema @ Value::Object(_))) => self.value(schema, value, &at),
                (None, _) if properties(schema).next().is_some() || alternatives(schema).next().is_some() => {
                    self.unknown(schema, key, &at);
                }
                // A schema without fields says nothing about them.
                (None, _) => {}
            }
        }
        for field in required(schema).filter(|field| !fields.contains_key(*field)) {
            self.add(&path::field(path, field), "it is missing", "add it");
        }
        self.one_of(schema, fields, path);
    }

    fn unknown(&mut self, schema: &Value, key: &str, path: &str) {
        if unsupported::field(self.kind, path) {
            return self.add(path, "this field is not supported yet", "remove it");
        }
        let known =
            properties(schema).chain(alternatives(schema).flat_map(properties)).map(|(known, _)| known.as_str());
        self.add(path, "there is no such field", suggest::remedy(key, known));
    }

    /// Of alternatives exactly one must be there. An unknown field was named already.
    fn one_of(&mut self, schema: &Value, fields: &Map<String, Value>, path: &str) {
        let tags: Vec<&str> = alternatives(schema).filter_map(tag).collect();
        let there = tags.iter().filter(|tag| fields.contains_key(**tag)).count();
        let only_known =
            fields.keys().all(|key| tags.contains(&key.as_str()) || properties(schema).any(|p| p.0 == key));
        if there > 1 || (there == 0 && !tags.is_empty() && only_known) {
            let what = if there > 1 { "these exclude one another" } else { "it is incomplete" };
            self.add(path, what, format!("write one of {}", tags.join(", ")));
        }
    }
}

/// What is wrong with a text of a definition that has a form of its own, and what to do.
fn form_fault(name: &str, text: &str) -> Option<(String, &'static str)> {
    let (fault, remedy) = match name {
        "Name" => (reason::<Name>(text), "write 1 to 63 of a-z, 0-9 and '-', as in cart-v2"),
        "Host" => (reason::<Host>(text), "write a host name, as in shop.example.com"),
        "HostPattern" => (reason::<HostPattern>(text), "write a host name, or *. and a host name"),
        "Span" => (other::<Span>(text, "a span of time"), "write a whole number and a unit: 500ms, 10s, 5m, 24h, 30d"),
        "Address" => (other::<Address>(text, "an address"), "write HOST:PORT, an IPv6 address in brackets"),
        "Cidr" => {
            let remedy = "write IP/PREFIX with no bit set below the prefix, as in 10.1.0.0/16";
            (other::<Cidr>(text, "a range of addresses"), remedy)
        }
        _ => return None,
    };
    fault.map(|fault| (fault, remedy))
}

/// What the parser says.
fn reason<T: FromStr<Err: ToString>>(text: &str) -> Option<String> {
    let fault = text.parse::<T>().err()?.to_string();
    // The parser quotes the text.
    Some(if is_quotable(text) { fault } else { format!("{} stands here", shown(text)) })
}

/// What isn't so.
fn other<T: FromStr>(text: &str, what: &str) -> Option<String> {
    text.parse::<T>().is_err().then(|| format!("{} is not {what}", shown(text)))
}

fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")
}

/// Of a schema that also allows nothing: what else it allows.
fn optional(schema: &Value) -> Option<&Value> {
    schema.get("anyOf")?.as_array()?.iter().find(|one| one.get("type").and_then(Value::as_str) != Some("null"))
}

/// Alternatives that are objects.
fn alternatives(schema: &Value) -> impl Iterator<Item = &Value> {
    one_of(schema).filter(|one| one.get("properties").is_some())
}

fn one_of(schema: &Value) -> impl Iterator<Item = &Value> {
    schema.get("oneOf").and_then(Value::as_array).into_iter().flatten()
}

/// The field that makes an object this alternative.
fn tag(alternative: &Value) -> Option<&str> {
    required(alternative).next()
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// The texts that are allowed, when only some are.
fn words(schema: &Value) -> Vec<&str> {
    let constants = one_of(schema).chain([schema]).filter_map(|one| one.get("const").and_then(Value::as_str));
    let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    constants.chain(listed).collect()
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => one_of(schema).flat_map(types).collect(),
    }
}

fn is_of(value: &Value, wanted: &str) -> bool {
    match wanted {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        _ => true,
    }
}

fn described(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) | Value::Number(_) => format!("the value {value}"),
        Value::String(text) => format!("the text {}", shown(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map of fields".to_owned(),
    }
}

fn wanted(schema: &Value, types: &[&str]) -> String {
    let words: Vec<String> = words(schema).into_iter().map(str::to_owned).collect();
    let tags = alternatives(schema).filter_map(tag).map(|tag| format!("{{{tag}: …}}"));
    let choices: Vec<String> = words.into_iter().chain(tags).collect();
    if !choices.is_empty() {
        return choices.join(", ");
    }
    let name = |wanted: &&str| match *wanted {
        "string" => Some("a text (in quotes when it looks like something else)"),
        "integer" => Some("a whole number"),
        "boolean" => Some("true or false"),
        "object" => Some("a map of fields"),
        "array" => Some("a list"),
        _ => None,
    };
    types.iter().filter_map(name).collect::<Vec<_>>().join(" or ")
}

fn is_quotable(text: &str) -> bool {
    text.len() <= 80 && !text.contains("-----")
}

/// A text as an error may show it: never what could be a key.
fn shown(text: &str) -> String {
    if is_quotable(text) { format!("{text:?}") } else { "a long text".to_owned() }
}
