//! `controller standalone` on a copy of an example, on a loopback address of its own.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::http::{self, Answer};
use crate::tool::{self, eventually};

/// Where the Gateway's port 80 is bound.
const PORT: u16 = 10080;

/// A copy of an example's manifests that a test may change.
pub(crate) struct Manifests {
    directory: TempDir,
    address: Ipv4Addr,
}

impl Manifests {
    /// `deploy/examples/NAME`, with its backends on this test's own address.
    pub(crate) fn of(example: &str) -> Self {
        let manifests = Self { directory: tempfile::tempdir().unwrap(), address: own_address() };
        fs::create_dir(manifests.folder()).unwrap();
        for entry in fs::read_dir(tool::workspace().join("deploy/examples").join(example)).unwrap() {
            let file = entry.unwrap().path();
            if file.extension().is_some_and(|extension| extension == "yaml") {
                let name = file.file_name().unwrap().to_str().unwrap();
                manifests.write(name, &fs::read_to_string(&file).unwrap());
            }
        }
        manifests
    }

    /// The folder that the controller reads.
    pub(crate) fn folder(&self) -> PathBuf {
        self.directory.path().join("manifests")
    }

    /// Where everything of this test listens.
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Adds or replaces a file, at once as an editor would.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let new = self.directory.path().join("new");
        fs::write(&new, text.replace("127.0.0.1", &self.address.to_string())).unwrap();
        fs::rename(new, self.folder().join(name)).unwrap();
    }

    /// A file's text.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder().join(name)).unwrap()
    }

    /// Replaces `from`, which must be there, in a file.
    pub(crate) fn replace(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{name} has no {from}: {text}");
        self.write(name, &text.replace(from, to));
    }

    /// Deletes a file.
    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.folder().join(name)).unwrap();
    }
}

/// A running controller; takes its Envoys down when dropped, and shows its log when the test failed.
pub(crate) struct Standalone {
    controller: Child,
    manifests: Manifests,
    envoys: Vec<u32>,
}

impl Standalone {
    /// With counters in memory.
    pub(crate) async fn start(manifests: Manifests) -> Self {
        Self::start_with(manifests, &[]).await
    }

    /// With more arguments, such as `--redis URL`; returns when Envoy serves.
    pub(crate) async fn start_with(manifests: Manifests, arguments: &[&str]) -> Self {
        let folder = manifests.directory.path();
        let log = File::create(folder.join("log")).unwrap();
        let address = manifests.address;
        let controller = Command::new(env!("CARGO_BIN_EXE_controller"))
            .arg("standalone")
            .arg(manifests.folder())
            .args(["--address", &address.to_string()])
            .args(["--admin", &format!("{address}:19000"), "--echo", &format!("{address}:3000")])
            .arg("--envoy")
            .arg(tool::find("envoy", "ENVOY"))
            .arg("--ready-file")
            .arg(folder.join("ready"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut standalone = Self { controller, manifests, envoys: Vec::new() };
        let ready = eventually("the controller is ready", async || {
            assert!(standalone.controller.try_wait().unwrap().is_none(), "the controller ended");
            standalone.ready()
        })
        .await;
        standalone.envoys.extend(envoys(&ready));
        standalone
    }

    /// What it reads.
    pub(crate) fn manifests(&self) -> &Manifests {
        &self.manifests
    }

    /// What it and its Envoy have written.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.manifests.directory.path().join("log")).unwrap()
    }

    /// The ready file, once it says ready.
    pub(crate) fn ready(&self) -> Option<Value> {
        let text = fs::read(self.manifests.directory.path().join("ready")).ok()?;
        let ready: Value = serde_json::from_slice(&text).ok()?;
        (ready["ready"] == true).then_some(ready)
    }

    /// The one Envoy's process id, as the ready file has it now.
    pub(crate) fn envoy(&self) -> Option<u32> {
        envoys(&self.ready()?).next()
    }

    /// A GET through Envoy, or what kept it from being answered.
    pub(crate) async fn try_get(
        &self,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, Box<dyn std::error::Error>> {
        http::get(SocketAddr::from((self.manifests.address, PORT)), host, path, headers).await
    }

    /// A GET through Envoy that must be answered.
    pub(crate) async fn get(&self, host: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.try_get(host, path, headers).await.unwrap()
    }

    /// Like [`Self::get`], with any method.
    pub(crate) async fn request(&self, method: &str, host: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        http::request(SocketAddr::from((self.manifests.address, PORT)), method, host, path, headers).await.unwrap()
    }

    /// Ends when a GET is answered with `status`.
    pub(crate) async fn answers(&self, host: &str, path: &str, status: u16) {
        let what = format!("{host}{path} answers {status}");
        eventually(&what, async || self.try_get(host, path, &[]).await.ok().filter(|answer| answer.status == status))
            .await;
    }

    /// `GET` on the controller's admin port.
    pub(crate) async fn admin(&self, path: &str) -> Answer {
        http::get(SocketAddr::from((self.manifests.address, 19000)), "admin", path, &[]).await.unwrap()
    }

    /// Ends when the log has a line with all of `parts`, and yields it.
    pub(crate) async fn logs(&self, parts: &[&str]) -> String {
        eventually(&format!("a log line with {parts:?}"), async || {
            self.log().lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
        })
        .await
    }

    /// SIGTERM, and no waiting.
    pub(crate) fn terminate(&self) {
        assert!(tool::signal("TERM", self.controller.id()));
    }

    /// SIGKILL; the Envoys must go with it.
    pub(crate) async fn kill(mut self) {
        let envoys: Vec<u32> = self.envoy().into_iter().collect();
        assert!(!envoys.is_empty());
        assert!(tool::signal("KILL", self.controller.id()));
        self.controller.wait().unwrap();
        eventually("the Envoys have ended", async || {
            envoys.iter().all(|envoy| !tool::is_running(*envoy)).then_some(())
        })
        .await;
    }

    /// SIGTERM; whether it ended with status 0 and took its Envoy along.
    pub(crate) async fn stop(mut self) {
        let envoys: Vec<u32> = self.envoy().into_iter().collect();
        assert!(tool::signal("TERM", self.controller.id()));
        let status = eventually("the controller ends", async || self.controller.try_wait().unwrap()).await;
        assert!(status.success(), "{status}");
        assert!(envoys.iter().all(|envoy| !tool::signal("0", *envoy)), "Envoy outlives its controller");
        assert!(!self.log().contains("panicked"), "a panic");
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        self.envoys.extend(self.envoy());
        tool::signal("TERM", self.controller.id());
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(self.controller.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.controller.kill();
        let _ = self.controller.wait();
        for envoy in &self.envoys {
            // Its own children only: a process id may have been given to somebody else since.
            if fs::read_to_string(format!("/proc/{envoy}/comm")).is_ok_and(|name| name.starts_with("envoy")) {
                tool::signal("KILL", *envoy);
            }
        }
        if thread::panicking() {
            eprintln!("--- the controller's log\n{}", tail(&self.manifests.directory.path().join("log")));
        }
    }
}

fn envoys(ready: &Value) -> impl Iterator<Item = u32> {
    let gateways = ready["gateways"].as_array().cloned().unwrap_or_default();
    gateways.into_iter().filter_map(|gateway| gateway["envoy_pid"].as_u64()?.try_into().ok())
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// All of 127.0.0.0/8 is this machine, so that tests can use the same ports side by side.
fn own_address() -> Ipv4Addr {
    static COUNT: AtomicU8 = AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 + COUNT.fetch_add(1, Ordering::Relaxed) % 128, high, low)
}
