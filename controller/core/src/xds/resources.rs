//! The set of resources that one proxy is sent, encoded and versioned by content.

use std::{collections::BTreeMap, fmt, sync::Arc};

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::Cluster, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener,
            route::v3::RouteConfiguration,
        },
        extensions::transport_sockets::tls::v3::Secret,
    },
    google::protobuf::Any,
};
use prost::{
    Message, Name,
    encoding::{WireType, encode_key, encode_varint},
};
use proto::extauth::AuthPolicy;
use sha2::{Digest, Sha256};

use super::canonical;

/// Kind of a resource, in the order in which a proxy must learn of them: what is referred to comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// CDS
    Cluster,
    /// EDS
    ClusterLoadAssignment,
    /// LDS
    Listener,
    /// RDS
    RouteConfiguration,
    /// SDS
    Secret,
    /// What `extauth` is sent, and no proxy.
    AuthPolicy,
}

impl Type {
    /// Every type that proxies are sent, in order.
    pub const ALL: [Self; 5] =
        [Self::Cluster, Self::ClusterLoadAssignment, Self::Listener, Self::RouteConfiguration, Self::Secret];

    /// The `type_url` of discovery requests and of `Any`.
    pub const fn url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::ClusterLoadAssignment => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::RouteConfiguration => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::AuthPolicy => AuthPolicy::TYPE_URL,
        }
    }

    /// The type that `url` names, if proxies are sent such resources.
    pub fn from_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.url() == url)
    }
}

/// A message that is a resource of its own.
pub trait Named: Message + Name {
    /// Its kind.
    const TYPE: Type;

    /// Its name within its kind.
    fn resource_name(&self) -> &str;
}

macro_rules! named {
    ($($message:ident by $field:ident),*) => {$(
        impl Named for $message {
            const TYPE: Type = Type::$message;

            fn resource_name(&self) -> &str {
                &self.$field
            }
        }
    )*};
}

named!(
    Cluster by name,
    ClusterLoadAssignment by cluster_name,
    Listener by name,
    RouteConfiguration by name,
    Secret by name,
    AuthPolicy by name
);

/// One encoded resource.
#[derive(Clone, PartialEq)]
pub struct Resource {
    /// The message.
    pub any: Any,
    /// 16 hex digits of a hash of the message: equal messages have equal versions, in every process.
    pub version: String,
}

impl Resource {
    /// Encodes a message.
    pub(super) fn of<M: Named>(message: &M) -> Self {
        let value = encode(message);
        let version = hash(&value);
        Self { any: Any { type_url: M::TYPE.url().to_owned(), value }, version }
    }
}

/// Leaves out the message, which may be a secret.
impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource").field("version", &self.version).finish_non_exhaustive()
    }
}

/// Everything that one proxy is sent: by kind, in the order of their names.
#[derive(Clone, Debug, Default)]
pub struct Resources(BTreeMap<Type, Vec<Entry>>);

/// A resource with its name.
pub(super) type Entry = (Arc<str>, Arc<Resource>);

/// Most resources are the very same as before, which takes no look at their bytes.
impl PartialEq for Resources {
    fn eq(&self, other: &Self) -> bool {
        let same = |((name, resource), (other_name, other)): (&Entry, &Entry)| {
            (Arc::ptr_eq(name, other_name) || name == other_name) && (Arc::ptr_eq(resource, other) || resource == other)
        };
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|((kind, own), (other_kind, others))| {
                kind == other_kind && own.len() == others.len() && own.iter().zip(others).all(same)
            })
    }
}

impl Resources {
    /// Adds a resource, unless one of its kind has the name already.
    pub fn add<M: Named>(&mut self, message: &M) {
        let of_type = self.0.entry(M::TYPE).or_default();
        if let Err(index) = place(of_type, message.resource_name()) {
            of_type.insert(index, (message.resource_name().into(), Arc::new(Resource::of(message))));
        }
    }

    /// Adds a resource by its name, likewise.
    pub(super) fn insert(&mut self, kind: Type, name: &str, resource: &Arc<Resource>) {
        let of_type = self.0.entry(kind).or_default();
        if let Err(index) = place(of_type, name) {
            of_type.insert(index, (name.into(), Arc::clone(resource)));
        }
    }

    /// Adds many, likewise.
    pub(super) fn extend<'r>(&mut self, others: impl IntoIterator<Item = &'r (Type, Entry)>) {
        for (kind, entry) in others {
            self.0.entry(*kind).or_default().push(entry.clone());
        }
        for of_type in self.0.values_mut() {
            // Those that were there before stay before others of their name.
            of_type.sort_by(|(a, _), (b, _)| a.cmp(b));
            of_type.dedup_by(|(a, _), (b, _)| a == b);
        }
    }

    /// Adds a resource instead of the one of its kind and name.
    pub fn replace<M: Named>(&mut self, message: &M) {
        self.put(M::TYPE, message.resource_name().into(), Resource::of(message));
    }

    /// Adds one that was encoded before, unless it is of no known kind.
    pub fn restore(&mut self, name: String, version: String, any: Any) {
        let mut kinds = Type::ALL.into_iter().chain([Type::AuthPolicy]);
        if let Some(kind) = kinds.find(|kind| kind.url() == any.type_url) {
            self.put(kind, name.into(), Resource { any, version });
        }
    }

    fn put(&mut self, kind: Type, name: Arc<str>, resource: Resource) {
        let of_type = self.0.entry(kind).or_default();
        let entry = |name| (name, Arc::new(resource));
        match place(of_type, &name) {
            Ok(index) => of_type[index] = entry(name),
            Err(index) => of_type.insert(index, entry(name)),
        }
    }

    /// The resource of this kind and name.
    pub fn find(&self, kind: Type, name: &str) -> Option<&Arc<Resource>> {
        let of_type = self.0.get(&kind)?;
        Some(&of_type.get(place(of_type, name).ok()?)?.1)
    }

    /// The resources of one kind, by name.
    pub fn of(&self, kind: Type) -> impl Iterator<Item = (&str, &Resource)> {
        self.0.get(&kind).into_iter().flatten().map(|(name, resource)| (name.as_ref(), resource.as_ref()))
    }

    /// All of them, each with its kind.
    pub(super) fn into_entries(self) -> Box<[(Type, Entry)]> {
        self.0.into_iter().flat_map(|(kind, of_type)| of_type.into_iter().map(move |entry| (kind, entry))).collect()
    }

    /// Decodes every resource of one kind, in the order of their names.
    pub fn messages<M: Named + Default>(&self) -> Result<Vec<M>, prost::DecodeError> {
        self.of(M::TYPE).map(|(_, resource)| M::decode(resource.any.value.as_slice())).collect()
    }

    /// Number of resources of all kinds.
    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// There is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where the resource of this name is, or where it belongs.
fn place(of_type: &[Entry], name: &str) -> Result<usize, usize> {
    of_type.binary_search_by(|(known, _)| known.as_ref().cmp(name))
}

/// The same bytes for equal messages.
fn encode<M: Named>(message: &M) -> Vec<u8> {
    let mut encoded = message.encode_to_vec();
    canonical::sort(&M::full_name(), &mut encoded);
    encoded
}

/// Writes a field that holds a message or text.
pub(super) fn frame(number: u32, value: &[u8], out: &mut Vec<u8>) {
    frame_start(number, value.len(), out);
    out.extend_from_slice(value);
}

/// Writes the start of a field of so many bytes.
pub(super) fn frame_start(number: u32, length: usize, out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
}

/// 16 hex digits of a hash of `encoded`.
pub(super) fn hash(encoded: &[u8]) -> String {
    hex(&Sha256::digest(encoded))
}

/// The first eight bytes of `digest` as hex digits.
pub(super) fn hex(digest: &[u8]) -> String {
    let first = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{first:016x}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn cluster(name: &str, alt_stat_name: &str) -> Cluster {
        Cluster { name: name.into(), alt_stat_name: alt_stat_name.into(), ..Default::default() }
    }

    #[test]
    fn the_first_of_a_name_stays() {
        let mut resources = Resources::default();
        resources.add(&cluster("a", "first"));
        resources.add(&cluster("a", "second"));
        let clusters: Vec<Cluster> = resources.messages().unwrap();
        assert_eq!(clusters, [cluster("a", "first")]);
    }

    #[test]
    fn versions_follow_the_content() {
        let mut resources = Resources::default();
        resources.add(&cluster("a", "x"));
        let mut same = Resources::default();
        same.add(&cluster("a", "x"));
        let mut other = Resources::default();
        other.add(&cluster("a", "y"));
        let version = |resources: &Resources| resources.find(Type::Cluster, "a").unwrap().version.clone();
        assert_eq!(version(&resources), version(&same));
        assert_ne!(version(&resources), version(&other));
        assert_eq!(version(&resources).len(), 16);
    }

    #[test]
    fn types_and_urls_agree() {
        for kind in Type::ALL {
            assert_eq!(Type::from_url(kind.url()), Some(kind));
        }
        assert_eq!(Type::from_url("type.googleapis.com/envoy.config.bootstrap.v3.Bootstrap"), None);
        assert_eq!(Cluster::type_url(), Type::Cluster.url());
        assert_eq!(Secret::type_url(), Type::Secret.url());
        assert_eq!(Type::from_url(Type::AuthPolicy.url()), None, "no proxy can ask for it");
    }
}
