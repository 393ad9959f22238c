//! `extauth keys`: the keys in the store, from the command line.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::extauth::Key;

use crate::background::Background;
use crate::keyring::{self, Keyring};
use crate::method::Invalid;
use crate::method::api_key::{self, Hash, Pepper, PepperError, moment, validate};
use crate::resources::Storage;
use crate::settings::{Action, Output};
use crate::store::{self, FOREVER, Redis, Store};

/// A key is listed so long after it has expired.
const REMEMBERED: Duration = Duration::from_hours(24);

/// Why nothing was done, or not all of it.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// Keys in memory would be gone at once.
    #[error("there is no store to keep keys in")]
    #[diagnostic(help("say where Redis is: --redis-url or EXTAUTH_REDIS_URL"))]
    NoStore,
    /// See [`keyring::Error`].
    #[error(transparent)]
    Keyring(#[from] keyring::Error),
    /// The settings of Redis cannot be used.
    #[error("setting up the store: {0}")]
    Store(#[from] store::Error),
    /// See [`PepperError`].
    #[error(transparent)]
    Pepper(#[from] PepperError),
    /// What was said about the key makes no sense.
    #[error("{}: {}", .0.field, .0.problem)]
    Key(Invalid),
    /// See [`api_key::NoRandom`].
    #[error(transparent)]
    Random(#[from] api_key::NoRandom),
    /// No thread, no runtime, or nowhere to write.
    #[error(transparent)]
    System(#[from] std::io::Error),
    /// The list cannot be written.
    #[error("writing the list")]
    Json(#[from] serde_json::Error),
}

/// Does it and prints what came of it.
pub fn run(storage: &Storage, pepper: Option<&Path>, set: &str, action: Action) -> Result<(), Error> {
    let Storage::Redis(options) = storage else { return Err(Error::NoStore) };
    let pepper = pepper.map(Pepper::read).transpose()?;
    let background = Background::start()?;
    let store = Store::Redis(Redis::new(options.clone(), background)?);
    validate(set).map_err(Error::Key)?;
    let keyring = Keyring::new(store, set);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(act(&keyring, pepper.as_ref(), action))
}

async fn act(keyring: &Keyring, pepper: Option<&Pepper>, action: Action) -> Result<(), Error> {
    match action {
        Action::Add { client, tenant, tier, scopes, labels, expires, prefix } => {
            let minted = api_key::mint(&prefix)?;
            let hash = Hash::of(&minted.key, pepper).ok_or(api_key::NoRandom)?.to_string();
            let labels = labels.into_iter().collect();
            let id = minted.id.clone();
            let key = Key { hash, id, client, tenant, tier, scopes, labels, expires, disabled: false };
            api_key::check(&key, pepper).map_err(Error::Key)?;
            keyring.add(&key, time_to_live(&key)).await?;
            eprintln!("{} is the id of this key of client {}; the key is shown only now:", minted.id, key.client);
            println!("{}", minted.key);
        }
        Action::List { output } => list(keyring.list().await?, output)?,
        Action::Revoke { id } => {
            let key = keyring.revoke(&id).await?;
            println!("{id} of client {} is revoked", key.client);
        }
    }
    Ok(())
}

/// Entries of keys that expire go by themselves.
fn time_to_live(key: &Key) -> Duration {
    let expires = key.expires.as_deref().and_then(|text| moment(text).ok());
    expires.map_or(FOREVER, |expires| {
        let end = UNIX_EPOCH + Duration::from_secs(expires) + REMEMBERED;
        end.duration_since(SystemTime::now()).unwrap_or_default()
    })
}

fn list(mut keys: Vec<Key>, output: Output) -> Result<(), Error> {
    match output {
        Output::Text => {
            println!("{:20} {:20} {:12} {:10} {:20} SCOPES", "ID", "CLIENT", "TENANT", "TIER", "EXPIRES");
            for key in keys {
                let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
                let (tenant, tier, expires) = (or_dash(&key.tenant), or_dash(&key.tier), or_dash(&key.expires));
                let (id, client, scopes) = (key.id, key.client, key.scopes.join(" "));
                println!("{id:20} {client:20} {tenant:12} {tier:10} {expires:20} {scopes}");
            }
        }
        Output::Json => {
            for key in &mut keys {
                key.hash.clear();
            }
            println!("{}", serde_json::to_string_pretty(&keys)?);
        }
    }
    Ok(())
}
