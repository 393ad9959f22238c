//! A certified provider in a process of its own.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use bytes::Bytes;
use extauth::resources::Resources;
use http::Request;
use serde_json::{Value, json};

use super::client;
use crate::support::{Process, resources};

/// Most tests can share one: they differ in users and browsers.
pub(crate) static SHARED: LazyLock<Provider> =
    LazyLock::new(|| Provider::start(&json!({"clients": [client(&json!({}))]})));

pub(crate) struct Provider {
    pub(crate) issuer: String,
    resources: Resources,
    _process: Process,
}

impl Provider {
    /// The options are `provider.mjs`'s.
    pub(crate) fn start(options: &Value) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/provider/provider.mjs");
        let mut child = Command::new("node")
            .arg(script)
            .arg(options.to_string())
            .env("OIDC_PROVIDER", packages())
            // It ends when this end of the pipe is closed, whatever becomes of this process.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node runs the provider");
        let mut issuer = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut issuer).unwrap();
        assert!(issuer.starts_with("http://"), "the provider did not start: {issuer}");
        Self { issuer: issuer.trim().to_owned(), resources: resources(), _process: Process(child) }
    }

    /// How often a path was asked for.
    pub(crate) async fn count(&self, path: &str) -> u64 {
        let request = Request::get(format!("{}/test/counts", self.issuer)).body(Bytes::new()).unwrap();
        let answer = self.resources.fetch.send(request).await.unwrap();
        serde_json::from_slice::<Value>(answer.body()).unwrap()[path].as_u64().unwrap_or_default()
    }

    /// Makes a path slow or wrong, until told otherwise.
    pub(crate) async fn fault(&self, fault: Value) {
        let request =
            Request::post(format!("{}/test/fault", self.issuer)).body(Bytes::from(fault.to_string())).unwrap();
        self.resources.fetch.send(request).await.unwrap();
    }
}

/// The folder with the npm packages.
pub(crate) fn packages() -> PathBuf {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/oidc-provider");
    let folder = env::var_os("OIDC_PROVIDER").map_or(fetched, PathBuf::from);
    folder.canonicalize().expect("the provider's packages: set OIDC_PROVIDER, or run `make test`, which fetches them")
}
