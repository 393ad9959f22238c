//! Sessions as a login would have left them in Redis, without the logins.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use extauth::background::Background;
use extauth::session::{Record, Sessions};
use extauth::store::Store;
use extauth::store::redis::{Access, Kind, Options, Redis, Url};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::Map;

use super::{AUDIENCE, Error, LIFETIME, Signer, put};

/// Where the policy would send browsers; nobody is there, as nobody logs in.
const ISSUER: &str = "http://127.0.0.1:9";

const POLICY: &str = "\
policies:
- name: bench
  methods:
  - oidc:
      providers: [{name: main, issuer: 'http://127.0.0.1:9', clientID: shop, clientAuth: none}]
      cookie: {name: session}
      claimsToHeaders:
      - {claim: sub, header: x-sub}
      - {claim: org.tenant, header: x-tenant}
";

/// Sessions that are written at once.
const WRITERS: usize = 8;

/// Begins `count` sessions with an ID token and an access token of some 900 bytes each.
pub(super) fn write(count: u32, redis: &str, dir: &Path) -> Result<(), Error> {
    let fail = |error: &dyn std::fmt::Display| Error::Sessions(error.to_string());
    let background = Background::start().map_err(|error| fail(&error))?;
    let options = Options {
        url: Url::new(redis.to_owned()),
        kind: Kind::Single,
        access: Access::default(),
        prefix: "extauth:".to_owned(),
        timeout: Duration::from_secs(10),
        connections: WRITERS,
    };
    let store = Redis::new(options, background.clone()).map_err(|error| fail(&error))?;
    let sessions = Sessions::new(Store::Redis(store), background);
    let signer = Signer::generate(super::Kind::Es256)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (sessions, signer) = (&sessions, &signer);
    let begin = |number: u32| async move {
        let record = record(signer, number, now)?;
        sessions.begin(record, now).await.map_err(|error| Error::Sessions(error.to_string()))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| fail(&error))?;
    let ids = stream::iter(0..count).map(begin).buffer_unordered(WRITERS).try_collect::<Vec<_>>();
    let mut cookies = String::new();
    for id in runtime.block_on(ids)? {
        cookies.push_str(id.expose());
        cookies.push('\n');
    }
    put(dir.join("policies/policies.yaml"), POLICY)?;
    put(dir.join("credentials"), &cookies)
}

fn record(signer: &Signer, number: u32, now: u64) -> Result<Record, Error> {
    Ok(Record {
        provider: "main".to_owned(),
        issuer: ISSUER.to_owned(),
        client_id: AUDIENCE.to_owned(),
        subject: format!("user-{number:010}"),
        sid: Some(format!("sid-{number:010}")),
        id_token: signer.token(number)?,
        user_info: Map::new(),
        access_token: signer.token(number)?,
        access_expires: now + LIFETIME,
        refresh_token: Some("r".repeat(64)),
        created: now,
        renewed: now,
        expires: now + LIFETIME,
        latest: None,
    })
}
