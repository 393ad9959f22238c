//! Conditions and the statuses they make up.

use std::{borrow::Cow, sync::Arc};

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::attachment::Attached;
use crate::ir::ObjectRef;

/// The new `status` of one object, without transition times: the writer knows what stood there before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ObjectStatus {
    /// As written in the manifest, such as `HTTPRoute`.
    pub kind: &'static str,
    /// Empty for cluster-scoped kinds.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// The kind's own `status`.
    pub status: Json,
}

/// A JSON value as text, which takes a tenth of the memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Json(Box<str>);

impl Json {
    /// The value.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// Changes the value.
    pub fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        let mut value = self.value();
        change(&mut value);
        *self = value.into();
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        Self(value.to_string().into())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(serializer)
    }
}

/// Where the stages of a translation write the statuses.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order in which they were written.
    pub statuses: Vec<Arc<ObjectStatus>>,
    /// The HTTP routes, whose conditions are not all known yet, with the index of the status of each.
    pub(super) parents: Vec<(usize, Arc<Attached>)>,
}

/// An entry of `parents` in the status of a route.
#[derive(Clone, Debug)]
pub(super) struct Parent {
    /// `metadata.generation` of the route.
    pub(super) generation: Option<i64>,
    /// Names of the listeners that the route is attached to by it.
    pub(super) listeners: Vec<String>,
}

impl Report {
    /// Adds a status.
    pub(super) fn add(&mut self, status: &Arc<ObjectStatus>) {
        self.statuses.push(Arc::clone(status));
    }

    /// Adds the status of `object`.
    pub(super) fn push(&mut self, object: &ObjectRef, status: Value) {
        self.statuses.push(ObjectStatus::new(object, status));
    }
}

impl ObjectStatus {
    /// That of `object`.
    pub(super) fn new(object: &ObjectRef, status: Value) -> Arc<Self> {
        let ObjectRef { kind, namespace, name } = object.clone();
        Arc::new(Self { kind, namespace, name, status: status.into() })
    }
}

/// One condition of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// Such as `Accepted`.
    pub(super) r#type: &'static str,
    /// `True` or `False`.
    pub(super) status: bool,
    /// Machine-readable cause, such as `BackendNotFound`.
    pub(super) reason: Cow<'static, str>,
    /// For people.
    pub(super) message: Cow<'static, str>,
}

/// The conditions of one object or part of it, at most one of a type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions(Vec<Condition>);

/// Longest message that the API server takes, in bytes.
const MAX_MESSAGE: usize = 32_768;

impl Conditions {
    /// Sets the condition of this type, replacing an earlier one.
    pub(super) fn set(
        &mut self,
        r#type: &'static str,
        status: bool,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE {
            let end = message.floor_char_boundary(MAX_MESSAGE);
            message.to_mut().truncate(end);
        }
        let condition = Condition { r#type, status, reason: reason.into(), message };
        match self.0.iter_mut().find(|known| known.r#type == r#type) {
            Some(known) => *known = condition,
            None => self.0.push(condition),
        }
    }

    /// The condition of this type.
    pub(super) fn find(&self, r#type: &str) -> Option<&Condition> {
        self.0.iter().find(|condition| condition.r#type == r#type)
    }

    /// The condition of this type holds.
    pub(super) fn is_true(&self, r#type: &str) -> bool {
        self.find(r#type).is_some_and(|condition| condition.status)
    }

    /// As it stands in a status; `generation` is that of the object.
    pub(super) fn to_json(&self, generation: Option<i64>) -> Value {
        let one = |condition: &Condition| {
            let mut value = json!({
                "type": condition.r#type,
                "status": if condition.status { "True" } else { "False" },
                "reason": condition.reason,
                "message": condition.message,
            });
            if let (Some(generation), Some(fields)) = (generation, value.as_object_mut()) {
                fields.insert("observedGeneration".into(), generation.into());
            }
            value
        };
        self.0.iter().map(one).collect()
    }
}

/// An error's text as a condition's message: first letter upper-case, a full stop at the end.
pub(super) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let Some(first) = letters.next() else { return String::new() };
    let stop = if text.ends_with('.') { "" } else { "." };
    format!("{}{}{stop}", first.to_uppercase(), letters.as_str())
}
