//! What every stage reads, indexed once.

use std::{cell::RefCell, collections::BTreeMap};

use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::backend_tls::Policies;
use crate::{Settings, Snapshot, ir::ObjectRef, snapshot::OWNER_LABELS};

/// A snapshot with the indexes that a translation needs.
pub(super) struct Inputs<'s> {
    /// The objects.
    pub(super) snapshot: &'s Snapshot,
    /// The operator's choices.
    pub(super) settings: &'s Settings,
    /// How to speak TLS with backends.
    pub(super) backend_tls: Policies<'s>,
    slices: Slices<'s>,
    imported_slices: Slices<'s>,
    /// The backends that were looked up since somebody wanted to know.
    noted: RefCell<Vec<ObjectRef>>,
}

/// By namespace and the Service's name.
type Slices<'s> = BTreeMap<&'s str, BTreeMap<&'s str, Vec<&'s EndpointSlice>>>;

impl<'s> Inputs<'s> {
    /// Indexes `snapshot`.
    pub(super) fn new(snapshot: &'s Snapshot, settings: &'s Settings) -> Self {
        let backend_tls = Policies::new(snapshot);
        let [slices, imported_slices] = OWNER_LABELS.map(|(label, _)| by_label(snapshot, label));
        Self { snapshot, settings, backend_tls, slices, imported_slices, noted: RefCell::default() }
    }

    /// A backend is looked up, whether or not it is there.
    pub(super) fn note(&self, kind: &'static str, namespace: &str, name: &str) {
        let backend = ObjectRef { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        self.noted.borrow_mut().push(backend);
    }

    /// What `read` yields, and the backends that it looks up. Such calls do not contain each other.
    pub(super) fn observe<T>(&self, read: impl FnOnce() -> T) -> (T, Vec<ObjectRef>) {
        self.noted.borrow_mut().clear();
        let result = read();
        (result, self.noted.take())
    }

    /// The slices of a Service, by name of the slice.
    pub(super) fn slices(&self, namespace: &str, service: &str) -> &[&'s EndpointSlice] {
        self.slices.get(namespace).and_then(|services| services.get(service)).map_or(&[], Vec::as_slice)
    }

    /// The slices of a ServiceImport, likewise.
    pub(super) fn imported_slices(&self, namespace: &str, import: &str) -> &[&'s EndpointSlice] {
        self.imported_slices.get(namespace).and_then(|imports| imports.get(import)).map_or(&[], Vec::as_slice)
    }

    /// The labels of a namespace; none when there is no such object.
    pub(super) fn namespace_labels(&self, namespace: &str) -> Option<&'s BTreeMap<String, String>> {
        let key = (String::new(), namespace.to_owned());
        self.snapshot.namespaces.get(&key)?.metadata.labels.as_ref()
    }
}

fn by_label<'s>(snapshot: &'s Snapshot, label: &str) -> Slices<'s> {
    let mut slices: Slices<'s> = BTreeMap::new();
    for ((namespace, _), slice) in snapshot.endpoint_slices.iter() {
        let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(label));
        if let Some(service) = service {
            let of_namespace = slices.entry(namespace.as_str()).or_default();
            of_namespace.entry(service.as_str()).or_default().push(slice.as_ref());
        }
    }
    slices
}
