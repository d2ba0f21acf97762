//! From text to values that remember their lines. JSON is read as the YAML that it is.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::Spanned;

use super::path;

/// One manifest as it was written.
pub(super) struct Document {
    pub(super) value: Value,
    /// Where its values stand, by their paths; the empty path is the document itself. Empty for what came without text.
    lines: BTreeMap<String, usize>,
}

/// Why a text is neither YAML nor JSON.
pub(super) struct SyntaxError {
    pub(super) line: Option<usize>,
    pub(super) what: String,
}

/// No document has more levels. Manifests need nine.
const MOST_LEVELS: usize = 64;

impl Document {
    /// Of what came without text.
    pub(super) fn of(value: Value) -> Self {
        Document { value, lines: BTreeMap::new() }
    }

    /// In which line the path stands, or the nearest path that contains it.
    pub(super) fn line(&self, mut path: &str) -> Option<usize> {
        loop {
            if let Some(line) = self.lines.get(path) {
                return Some(*line);
            }
            path = path.rfind(['.', '[']).and_then(|end| path.get(..end)).filter(|_| !path.is_empty()).unwrap_or("");
            if path.is_empty() {
                return self.lines.get("").copied();
            }
        }
    }
}

/// Every manifest of the text: of several documents, of lists of manifests, of `kind: List`.
pub(super) fn read(text: &str) -> Result<Vec<Document>, SyntaxError> {
    let mut options = serde_saphyr::Options::default();
    options.strict_booleans = true;
    // A piece of the text in an error could be a piece of a private key.
    options.with_snippet = false;
    options.budget = serde_saphyr::budget! {
        max_depth: MOST_LEVELS,
        max_documents: 50_000,
        max_nodes: 1_000_000,
        max_events: 4_000_000,
    };
    let documents = serde_saphyr::from_multiple_with_options::<Spanned<Tree>>(text, options);
    let documents = documents.map_err(|error| syntax_error(&error))?;
    Ok(documents.into_iter().flat_map(manifests).map(document).collect())
}

fn syntax_error(error: &serde_saphyr::Error) -> SyntaxError {
    let line = error.location().and_then(|location| usize::try_from(location.line()).ok()).filter(|line| *line > 0);
    SyntaxError { line, what: error.without_snippet().to_string() }
}

/// A YAML value that knows where its parts stand.
enum Tree {
    Leaf(Value),
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
}

fn manifests(tree: Spanned<Tree>) -> Vec<Spanned<Tree>> {
    match tree.value {
        Tree::List(items) => items,
        Tree::Map(fields) if is_list(&fields) => fields.into_iter().find_map(items).unwrap_or_default(),
        _ => vec![tree],
    }
}

fn is_list(fields: &[(Spanned<String>, Spanned<Tree>)]) -> bool {
    let kind = fields.iter().find(|(key, _)| key.value == "kind");
    kind.is_some_and(|(_, value)| matches!(&value.value, Tree::Leaf(Value::String(kind)) if kind == super::LIST))
}

fn items((key, value): (Spanned<String>, Spanned<Tree>)) -> Option<Vec<Spanned<Tree>>> {
    match value.value {
        Tree::List(items) if key.value == "items" => Some(items),
        _ => None,
    }
}

fn document(tree: Spanned<Tree>) -> Document {
    let mut lines = BTreeMap::new();
    let value = flatten(tree, String::new(), &mut lines);
    Document { value, lines }
}

fn flatten(tree: Spanned<Tree>, path: String, lines: &mut BTreeMap<String, usize>) -> Value {
    let value = match tree.value {
        Tree::Leaf(value) => value,
        Tree::List(items) => {
            let item = |(i, item)| flatten(item, path::item(&path, i), lines);
            Value::Array(items.into_iter().enumerate().map(item).collect())
        }
        Tree::Map(fields) => {
            let field = |(key, value): (Spanned<String>, Spanned<Tree>)| {
                let path = path::field(&path, &key.value);
                let value = flatten(value, path.clone(), lines);
                // A block value starts in the line below its key; people look for the key.
                lines.insert(path, usize::try_from(key.referenced.line()).unwrap_or_default());
                (key.value, value)
            };
            Value::Object(fields.into_iter().map(field).collect())
        }
    };
    lines.insert(path, usize::try_from(tree.referenced.line()).unwrap_or_default());
    value
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = access.next_entry()? {
            fields.push(field);
        }
        Ok(Tree::Map(fields))
    }
}
