//! Logins as people do them, for the tests of every crate: a certified OpenID provider and a browser, both processes of
//! their own. What they need is fetched by `deploy/dev/oidc.sh` and `deploy/dev/chromium.sh`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc, reason = "a test is what fails")]

use std::env;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A provider that knows the clients it is told of, and lets everybody in under the name that they type. Ends when dropped.
#[derive(Debug)]
pub struct Provider {
    /// Its URL, without a slash at the end.
    pub issuer: String,
    process: Child,
}

impl Provider {
    /// The options are those of `provider.mjs`; the address is a free one unless `listen` names it.
    pub fn start(options: &Value) -> Self {
        let mut process = Command::new("node")
            .arg(folder().join("provider.mjs"))
            .arg(options.to_string())
            .env("OIDC_PROVIDER", packages())
            // It ends when this end of the pipe is closed, whatever becomes of this process.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node runs the provider");
        let mut issuer = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut issuer).unwrap();
        assert!(issuer.starts_with("http://"), "the provider did not start: {issuer}");
        Self { issuer: issuer.trim().to_owned(), process }
    }

    /// How often a path was asked for.
    pub async fn count(&self, path: &str) -> u64 {
        let counts: Value = serde_json::from_str(&self.ask("GET", "/test/counts", "").await).unwrap();
        counts[path].as_u64().unwrap_or_default()
    }

    /// Makes a path slow or wrong, until told otherwise.
    pub async fn fault(&self, fault: Value) {
        self.ask("POST", "/test/fault", &fault.to_string()).await;
    }

    /// An access token that a client gets for itself, as a JWT for `resource`.
    pub async fn token(&self, client: &str, secret: &str, resource: &str) -> String {
        let form =
            format!("grant_type=client_credentials&client_id={client}&client_secret={secret}&resource={resource}");
        let answer: Value = serde_json::from_str(&self.ask("POST", "/token", &form).await).unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let host = self.issuer.trim_start_matches("http://");
        let length = body.len();
        let kind = "application/x-www-form-urlencoded";
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: {kind}");
        let mut stream = TcpStream::connect(host).await.unwrap();
        stream.write_all(format!("{head}\r\ncontent-length: {length}\r\n\r\n{body}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs a story, a script of Node.js that drives Chromium with what `browser.mjs` exports; yields what it tells, a line for
/// each step. The error tells all that it wrote.
pub fn browse(story: &Path, arguments: &[&str]) -> Result<String, String> {
    let told = Command::new("node")
        .arg(story)
        .args(arguments)
        .env("OIDC_PROVIDER", packages())
        .env("CHROMIUM", chromium())
        .output()
        .expect("node runs the story");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if told.status.success() { Ok(text(&told.stdout)) } else { Err(text(&told.stdout) + &text(&told.stderr)) }
}

/// The folder with the npm packages.
fn packages() -> PathBuf {
    let fetched = folder().join("../../../.tools/oidc-provider");
    let packages = env::var_os("OIDC_PROVIDER").map_or(fetched, PathBuf::from);
    packages.canonicalize().expect("the provider's packages: set OIDC_PROVIDER, or run `make test`, which fetches them")
}

fn chromium() -> PathBuf {
    let fetched = folder().join("../../../.tools/chromium");
    let chromium = env::var_os("CHROMIUM").map_or(fetched, PathBuf::from);
    chromium.canonicalize().expect("a browser: set CHROMIUM, or run `make test`, which fetches one")
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
