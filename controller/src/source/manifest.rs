//! One file of manifests: its objects, and where in the file they stand.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;
use serde_saphyr::{DefaultMessageFormatter, Location, MessageFormatter, Options, Spanned};

/// Something in a file that is not what it should be, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Counted from 1; 0 when the file could not be read at all.
    pub line: u64,
    /// Counted from 1.
    pub column: u64,
    /// What is wrong, with object and field where they are known.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message } = self;
        match line {
            0 => write!(f, "{}: {message}", file.display()),
            _ => write!(f, "{}:{line}:{column}: {message}", file.display()),
        }
    }
}

/// One object of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Document {
    /// The object.
    pub(super) value: Value,
    pub(super) spot: Spot,
}

/// Where an object stands in its file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spot {
    /// Which of the file's YAML documents it stands in.
    index: usize,
    /// Path of the object within its document: empty, or `items[3]` in a list.
    prefix: String,
    /// Where the YAML document starts.
    pub(super) line: u64,
    pub(super) column: u64,
}

impl Spot {
    /// Line and column of the field at `path`, such as `spec.rules[0].matches`, or of what is nearest above it.
    pub(super) fn locate(&self, text: &str, path: &str) -> (u64, u64) {
        let trees: Vec<Spanned<Tree>> = serde_saphyr::from_multiple_with_options(text, options()).unwrap_or_default();
        let Some(root) = trees.get(self.index) else { return (self.line, self.column) };
        let mut node = root;
        for step in steps(&self.prefix).chain(steps(path)) {
            let Some(next) = node.value.0.get(step) else { break };
            node = next;
        }
        (node.referenced.line(), node.referenced.column())
    }
}

/// Reads all documents of a YAML or JSON file. The objects of a `List` count as documents of their own.
pub(super) fn parse(text: &str) -> Result<Vec<Document>, (u64, u64, String)> {
    let documents: Vec<Spanned<Value>> =
        serde_saphyr::from_multiple_with_options(text, options()).map_err(|error| {
            let at = error.location().unwrap_or(Location::UNKNOWN);
            // Without the snippet of the source, which may hold a secret.
            let message = DefaultMessageFormatter.format_message(error.without_snippet()).into_owned();
            (at.line().max(1), at.column().max(1), message)
        })?;
    Ok(documents.into_iter().enumerate().flat_map(|(index, document)| flatten(index, document)).collect())
}

fn flatten(index: usize, document: Spanned<Value>) -> Vec<Document> {
    let (line, column) = (document.referenced.line(), document.referenced.column());
    let mut value = document.value;
    let is_list = value.get("kind").and_then(Value::as_str) == Some("List");
    match value.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) if is_list => {
            let spot = |item| Spot { index, prefix: format!("items[{item}]"), line, column };
            items.into_iter().enumerate().map(|(item, value)| Document { value, spot: spot(item) }).collect()
        }
        items => {
            if let (Some(items), Some(fields)) = (items, value.as_object_mut()) {
                fields.insert("items".into(), items);
            }
            vec![Document { value, spot: Spot { index, prefix: String::new(), line, column } }]
        }
    }
}

/// Limits that leave room for ten thousand objects in one file.
fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 100_000,
            max_events: 20_000_000,
            max_nodes: 10_000_000,
        },
    }
}

/// `a.b[0]` is `a`, `b`, `0`.
fn steps(path: &str) -> impl Iterator<Item = &str> {
    path.split(['.', '[', ']']).filter(|step| !step.is_empty())
}

/// What stands where, without the values. Items of a sequence are named by their index.
#[derive(Default)]
struct Tree(BTreeMap<String, Spanned<Tree>>);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> de::Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut children = BTreeMap::new();
        while let Some((key, value)) = map.next_entry()? {
            children.insert(key, value);
        }
        Ok(Tree(children))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut children = BTreeMap::new();
        while let Some(value) = items.next_element()? {
            children.insert(children.len().to_string(), value);
        }
        Ok(Tree(children))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
        Ok(Tree::default())
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::default())
    }
}
