//! The set of resources that one proxy is sent, encoded and versioned by content.

use std::{collections::BTreeMap, fmt};

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
use prost::{Message, Name};
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

/// Leaves out the message, which may be a secret.
impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource").field("version", &self.version).finish_non_exhaustive()
    }
}

/// Everything that one proxy is sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources(BTreeMap<Type, BTreeMap<String, Resource>>);

impl Resources {
    /// Adds a resource, unless one of its kind has the name already.
    pub fn add<M: Named>(&mut self, message: &M) {
        self.0.entry(M::TYPE).or_default().entry(message.resource_name().to_owned()).or_insert_with(|| {
            let value = encode(message);
            let version = hash(&value);
            Resource { any: Any { type_url: M::TYPE.url().to_owned(), value }, version }
        });
    }

    /// Adds one that was encoded before, unless it is of no known kind.
    pub fn restore(&mut self, name: String, version: String, any: Any) {
        let mut kinds = Type::ALL.into_iter().chain([Type::AuthPolicy]);
        if let Some(kind) = kinds.find(|kind| kind.url() == any.type_url) {
            self.0.entry(kind).or_default().insert(name, Resource { any, version });
        }
    }

    /// The resource of this kind and name.
    pub fn find(&self, kind: Type, name: &str) -> Option<&Resource> {
        self.0.get(&kind)?.get(name)
    }

    /// The resources of one kind, by name.
    pub fn of(&self, kind: Type) -> impl Iterator<Item = (&str, &Resource)> {
        self.0.get(&kind).into_iter().flatten().map(|(name, resource)| (name.as_str(), resource))
    }

    /// Decodes every resource of one kind, in the order of their names.
    pub fn messages<M: Named + Default>(&self) -> Result<Vec<M>, prost::DecodeError> {
        self.of(M::TYPE).map(|(_, resource)| M::decode(resource.any.value.as_slice())).collect()
    }

    /// Number of resources of all kinds.
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    /// There is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The same bytes for equal messages.
fn encode<M: Named>(message: &M) -> Vec<u8> {
    let encoded = message.encode_to_vec();
    let pool = proto::descriptors::pool().ok();
    match pool.and_then(|pool| pool.get_message_by_name(&M::full_name())) {
        Some(descriptor) => canonical::sorted(&descriptor, &encoded),
        None => encoded,
    }
}

/// 16 hex digits.
pub(super) fn hash(encoded: &[u8]) -> String {
    format!("{:x}", Sha256::digest(encoded)).chars().take(16).collect()
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
