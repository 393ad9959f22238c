//! What was served last, on disk, for a start while the API server is away.
//!
//! It holds what Envoys and the services hold, private keys of listeners and secrets of policies included: the file is for
//! its owner only.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Buf;
use controller_core::xds::{Resources, Type};
use envoy_types::pb::{
    envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource},
    google::protobuf::Any,
    ratelimit::config::ratelimit::v3::RateLimitConfig,
};
use prost::{DecodeError, Message, Name};
use sha2::{Digest, Sha256};

use crate::ads::cache::Proxies;

/// What a file begins with; another layout gets another number.
const HEAD: &[u8] = b"tollgate controller state 2\n";
/// Bytes of the SHA-256 that follows, of all that comes after it.
const DIGEST: usize = 32;
const NAME: &str = "controller.state";

/// Why there is no state, or why it is not kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Reading or writing failed.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The file is not one of ours, or not as it was written.
    #[error("{}: it is truncated, edited, or of another version", .0.display())]
    Damaged(PathBuf),
    /// The file is whole but cannot be understood.
    #[error("{}", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: DecodeError,
    },
}

/// Everything that is served.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Served {
    pub(super) proxies: Proxies,
    pub(super) limits: Arc<Vec<RateLimitConfig>>,
    pub(super) policies: Arc<Resources>,
}

/// A directory with one file.
#[derive(Clone, Debug)]
pub(super) struct State(PathBuf);

impl State {
    pub(super) fn new(directory: &Path) -> Self {
        Self(directory.join(NAME))
    }

    /// What was kept; `None` when nothing was.
    pub(super) fn load(&self) -> Result<Option<Served>, Error> {
        let content = match fs::read(&self.0) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { path: self.0.clone(), source }),
        };
        let damaged = || Error::Damaged(self.0.clone());
        let (digest, body) =
            content.strip_prefix(HEAD).and_then(|rest| rest.split_at_checked(DIGEST)).ok_or_else(damaged)?;
        if Sha256::digest(body).as_slice() != digest {
            return Err(damaged());
        }
        decode(body).map(Some).map_err(|source| Error::Decode { path: self.0.clone(), source })
    }

    /// Keeps it, in one step: a crash leaves either the old file or the new one.
    pub(super) fn store(&self, served: &Served) -> Result<(), Error> {
        let body = encode(served);
        let draft = self.0.with_extension("draft");
        let write = || {
            let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(HEAD)?;
            file.write_all(&Sha256::digest(&body))?;
            file.write_all(&body)?;
            file.sync_all()?;
            fs::rename(&draft, &self.0)
        };
        write().map_err(|source| Error::Io { path: self.0.clone(), source })
    }
}

/// One message for each proxy, named in `system_version_info`, and one without a name for limits and policies.
fn encode(served: &Served) -> Vec<u8> {
    let mut body = Vec::new();
    let mut put = |name: &str, resources: Vec<Resource>| {
        let message = DeltaDiscoveryResponse { system_version_info: name.to_owned(), resources, ..Default::default() };
        body.extend(message.encode_length_delimited_to_vec());
    };
    for (key, proxy) in served.proxies.iter() {
        put(key, Type::ALL.into_iter().flat_map(|kind| of_kind(proxy, kind)).collect());
    }
    let limit = |limit: &RateLimitConfig| {
        let any = Any { type_url: RateLimitConfig::type_url(), value: limit.encode_to_vec() };
        Resource { name: limit.name.clone(), resource: Some(any), ..Default::default() }
    };
    put("", served.limits.iter().map(limit).chain(of_kind(&served.policies, Type::AuthPolicy)).collect());
    body
}

fn of_kind(resources: &Resources, kind: Type) -> impl Iterator<Item = Resource> {
    resources.of(kind).map(|(name, resource)| Resource {
        name: name.to_owned(),
        version: resource.version.clone(),
        resource: Some(resource.any.clone()),
        ..Default::default()
    })
}

fn decode(mut body: &[u8]) -> Result<Served, DecodeError> {
    let (mut proxies, mut limits, mut policies) = (BTreeMap::new(), Vec::new(), Resources::default());
    while body.has_remaining() {
        let message = DeltaDiscoveryResponse::decode_length_delimited(&mut body)?;
        let mut resources = Resources::default();
        for Resource { name, version, resource, .. } in message.resources {
            let any = resource.unwrap_or_default();
            if !message.system_version_info.is_empty() {
                resources.restore(name, version, any);
            } else if any.type_url == Type::AuthPolicy.url() {
                policies.restore(name, version, any);
            } else {
                limits.push(RateLimitConfig::decode(any.value.as_slice())?);
            }
        }
        if !message.system_version_info.is_empty() {
            proxies.insert(message.system_version_info, Arc::new(resources));
        }
    }
    Ok(Served { proxies: Arc::new(proxies), limits: Arc::new(limits), policies: Arc::new(policies) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;

    use envoy_types::pb::envoy::config::cluster::v3::Cluster;
    use proto::extauth::AuthPolicy;

    use super::*;

    fn served() -> Served {
        let mut resources = Resources::default();
        resources.add(&Cluster { name: "a".into(), ..Default::default() });
        let limit = RateLimitConfig { name: "l".into(), domain: "d".into(), ..Default::default() };
        let proxies =
            BTreeMap::from([("ns/eg".to_owned(), Arc::new(resources)), ("ns/empty".to_owned(), Arc::default())]);
        let mut policies = Resources::default();
        policies.add(&AuthPolicy { name: "p".into(), json: "{}".into() });
        Served { proxies: Arc::new(proxies), limits: Arc::new(vec![limit]), policies: Arc::new(policies) }
    }

    #[test]
    fn what_is_kept_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path());
        assert_eq!(state.load().unwrap(), None);
        state.store(&served()).unwrap();
        assert_eq!(state.load().unwrap(), Some(served()));
        let mode = fs::metadata(folder.path().join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path());
        state.store(&served()).unwrap();
        let whole = fs::read(folder.path().join(NAME)).unwrap();
        for end in 0..whole.len() {
            fs::write(folder.path().join(NAME), &whole[..end]).unwrap();
            assert!(matches!(state.load(), Err(Error::Damaged(_))), "{end}");
        }
        let mut edited = whole;
        *edited.last_mut().unwrap() ^= 1;
        fs::write(folder.path().join(NAME), edited).unwrap();
        assert!(matches!(state.load(), Err(Error::Damaged(_))));
    }
}
