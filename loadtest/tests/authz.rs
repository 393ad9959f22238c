//! Credentials that were made beforehand against the policies that were made with them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::num::NonZeroU32;
use std::time::SystemTime;

use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use extauth::check::Check;
use extauth::config::{Config, Files};
use extauth::policy::Policies;
use extauth::resources::{Options, Resources};
use extauth::verdict::Verdict;
use loadtest::credentials::{self, Kind};
use loadtest::keys::Distribution;
use loadtest::target::Target as _;
use loadtest::target::authz::{Authz, Settings};
use loadtest::target::sent;
use prost::Message as _;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tempfile::TempDir;

/// How many of ten requests with made credentials pass, when the policies are `policies`'.
fn passing(kind: Kind, credentials: &TempDir, policies: &TempDir) -> usize {
    let files = fs::read_dir(policies.path().join("policies")).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap())
    });
    let config = Config::parse(&files.collect::<Files>()).unwrap();
    let policies = Policies::compile(&config.policies, &Resources::new(&Options::default()).unwrap()).unwrap();
    let (header, prefix) = if kind == Kind::ApiKey { ("x-api-key", "") } else { ("authorization", "Bearer ") };
    let settings = Settings {
        policy: "bench".to_owned(),
        sent: sent::Settings {
            credentials: Some(credentials.path().join("credentials")),
            header: header.to_owned(),
            prefix: prefix.to_owned(),
            distribution: Distribution::Uniform,
            once: false,
        },
    };
    let authz = Authz::new(&"unix:/s".parse().unwrap(), &settings).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut rng = SmallRng::seed_from_u64(7);
    let allowed = (0..10).filter(|_| {
        let request = CheckRequest::decode(authz.request(&mut rng).1.slice(5..)).unwrap();
        let check = Check::new(&request, SystemTime::now()).unwrap();
        matches!(runtime.block_on(policies.check(&check)), Verdict::Allow(_))
    });
    allowed.count()
}

#[test]
fn made_credentials_pass_their_own_policy_and_no_other() {
    for kind in [Kind::ApiKey, Kind::Rs256, Kind::Es256] {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        credentials::write(kind, NonZeroU32::new(5).unwrap(), None, one.path()).unwrap();
        credentials::write(kind, NonZeroU32::new(5).unwrap(), None, other.path()).unwrap();
        assert_eq!(passing(kind, &one, &one), 10, "{kind:?}");
        if kind != Kind::ApiKey {
            assert_eq!(passing(kind, &one, &other), 0, "{kind:?}");
        }
    }
}
