//! `controller certgen`: the certificates by which controller, proxies, rate limit service and authorization service know each
//! other, made and renewed ahead of their end. Run it before the controller starts, and from time to time.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::SystemTime,
};

use clap::Args;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::PostParams};

use self::plan::State;
use crate::installation::{self, ApiServer};

mod authority;
mod plan;
mod secrets;

/// Make the certificates that controller, proxies and services know each other by, or renew what will soon end
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Where the Secrets are.
    #[command(flatten)]
    pub api_server: ApiServer,
    /// Namespace of the controller
    #[arg(long, value_name = "NAME", env = "ENVOY_GATEWAY_NAMESPACE", default_value = "envoy-gateway-system")]
    pub namespace: String,
    /// The cluster's DNS suffix
    #[arg(long, value_name = "DOMAIN", env = "KUBERNETES_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub dns_domain: String,
    /// Make everything anew, whatever there is; what runs must be restarted then
    #[arg(long)]
    pub overwrite: bool,
    /// Write files below this folder, a folder for each Secret, instead of Secrets
    #[arg(long, value_name = "DIR")]
    pub local: Option<PathBuf>,
}

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One cannot be made or read.
    #[error(transparent)]
    Certificate(#[from] authority::Error),
    /// There is no way to the API server.
    #[error(transparent)]
    ApiServer(#[from] installation::Error),
    /// The API server refuses something.
    #[error("{attempt}")]
    Api {
        /// What was attempted.
        attempt: String,
        /// Why it failed.
        source: Box<kube::Error>,
    },
    /// The system refuses something.
    #[error("{attempt}")]
    System {
        /// What was attempted.
        attempt: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// Makes what is missing and renews what is due.
pub fn run(options: &Options) -> Result<(), Error> {
    if let Some(folder) = &options.local {
        return write_files(options, folder);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| Error::System { attempt: "starting the runtime".into(), source })?;
    runtime.block_on(store(options))
}

async fn store(options: &Options) -> Result<(), Error> {
    let client = options.api_server.client().await?;
    let api: Api<Secret> = Api::namespaced(client, &options.namespace);
    let names = secrets::names(&options.namespace, &options.dns_domain);
    let mut known = BTreeMap::new();
    for name in names.keys().map(String::as_str).chain([secrets::AUTHORITY, secrets::HMAC]) {
        let found = api.get_opt(name).await.map_err(|error| failed(&format!("reading Secret {name}"), error))?;
        known.extend(found.map(|secret| (name.to_owned(), secret)));
    }
    let state = if options.overwrite { State::default() } else { secrets::read(&known, &names) };
    let wanted = plan::next(&state, &names, SystemTime::now())?;
    for secret in secrets::write(&wanted, &options.namespace) {
        put(&api, secret, &known).await?;
    }
    if options.overwrite || !known.contains_key(secrets::HMAC) {
        put(&api, secrets::hmac(&options.namespace, rand::random()), &known).await?;
    }
    Ok(())
}

/// Creates the Secret, or replaces the one that was read if it holds something else; another's change meanwhile is an error.
async fn put(api: &Api<Secret>, secret: Secret, known: &BTreeMap<String, Secret>) -> Result<(), Error> {
    let name = secret.metadata.name.clone().unwrap_or_default();
    let before = known.get(&name);
    if before.is_some_and(|before| before.data == secret.data) {
        tracing::info!("Secret {name} is good as it is");
        return Ok(());
    }
    let attempt = |verb: &str| format!("{verb} Secret {name}");
    match before {
        None => {
            api.create(&PostParams::default(), &secret).await.map_err(|error| failed(&attempt("creating"), error))?;
            tracing::info!("Secret {name} is made");
        }
        Some(before) => {
            // The type of a Secret cannot change, and labels of others are kept.
            let mut after = before.clone();
            after.metadata.labels.get_or_insert_default().extend(secret.metadata.labels.unwrap_or_default());
            after.data = secret.data;
            let written = api.replace(&name, &PostParams::default(), &after).await;
            written.map_err(|error| failed(&attempt("replacing"), error))?;
            tracing::info!("Secret {name} is renewed");
        }
    }
    Ok(())
}

fn failed(attempt: &str, source: kube::Error) -> Error {
    Error::Api { attempt: attempt.to_owned(), source: Box::new(source) }
}

/// The same for a machine without Kubernetes: `DIR/<secret>/<key>`. What is there is read first, so it rotates as well.
fn write_files(options: &Options, folder: &Path) -> Result<(), Error> {
    let names = secrets::names(&options.namespace, &options.dns_domain);
    let known = names.keys().map(String::as_str).chain([secrets::AUTHORITY, secrets::HMAC]);
    let known = known.filter_map(|name| Some((name.to_owned(), read_folder(&folder.join(name))?)));
    let known: BTreeMap<String, Secret> = known.collect();
    let state = if options.overwrite { State::default() } else { secrets::read(&known, &names) };
    let wanted = plan::next(&state, &names, SystemTime::now())?;
    let mut all = secrets::write(&wanted, &options.namespace);
    if options.overwrite || !known.contains_key(secrets::HMAC) {
        all.push(secrets::hmac(&options.namespace, rand::random()));
    }
    for secret in all {
        let name = secret.metadata.name.clone().unwrap_or_default();
        if known.get(&name).is_some_and(|before| before.data == secret.data) {
            continue;
        }
        let folder = folder.join(&name);
        let error = |source| Error::System { attempt: format!("writing {}", folder.display()), source };
        write_folder(&folder, &secret).map_err(error)?;
    }
    Ok(())
}

fn read_folder(folder: &Path) -> Option<Secret> {
    let files = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let data = files.filter_map(|file| {
        let content = std::fs::read(file.path()).ok()?;
        Some((file.file_name().into_string().ok()?, k8s_openapi::ByteString(content)))
    });
    Some(Secret { data: Some(data.collect()), ..Secret::default() })
}

/// Readable for the owner only. A reader sees each file whole, before or after.
fn write_folder(folder: &Path, secret: &Secret) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(folder)?;
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o700))?;
    for (key, content) in secret.data.iter().flatten() {
        let mut draft = tempfile::NamedTempFile::new_in(folder)?;
        std::io::Write::write_all(&mut draft, &content.0)?;
        draft.persist(folder.join(key))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn options(folder: &Path, overwrite: bool) -> Options {
        Options {
            api_server: ApiServer::default(),
            namespace: "envoy-gateway-system".into(),
            dns_domain: "cluster.local".into(),
            overwrite,
            local: Some(folder.to_owned()),
        }
    }

    fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let folders = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
        files.map(|file| (file.clone(), fs::read(file).unwrap())).collect()
    }

    #[test]
    fn files_are_made_once_and_only_their_owner_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        run(&options(folder.path(), false)).unwrap();
        let first = content(folder.path());
        for file in ["envoy-gateway/tls.key", "envoy/ca.crt", "envoy-rate-limit/tls.crt", "envoy-extauth/tls.crt"] {
            assert!(first.contains_key(&folder.path().join(file)), "{file}");
        }
        assert_eq!(first[&folder.path().join("envoy-oidc-hmac/hmac-secret")].len(), 32);
        let key = fs::metadata(folder.path().join("envoy-gateway/tls.key")).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
        run(&options(folder.path(), false)).unwrap();
        assert!(content(folder.path()) == first, "nothing is due");
        run(&options(folder.path(), true)).unwrap();
        let second = content(folder.path());
        assert!(first.iter().all(|(file, content)| second[file] != *content || file.ends_with("former.crt")));
    }
}
