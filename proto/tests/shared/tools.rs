//! Where the real programs are that tests run. The suites of the services have it as a module of their own.

#![allow(dead_code, reason = "no suite uses all of it")]

use std::env;
use std::path::{Path, PathBuf};

/// What a variable names, else the one on `PATH`, else the one that the build fetches.
pub(crate) fn tool(variable: &str, name: &str) -> PathBuf {
    let on_path = || env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file());
    let fetched =
        || Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools").join(name)).filter(|path| path.exists());
    let found = env::var_os(variable).map(PathBuf::from).or_else(on_path).or_else(fetched);
    found.unwrap_or_else(|| {
        panic!("{name} is missing: set {variable}, put it on PATH, or run `make test`, which fetches it")
    })
}

pub(crate) fn envoy() -> PathBuf {
    tool("ENVOY", "envoy")
}

pub(crate) fn redis_server() -> PathBuf {
    tool("REDIS_SERVER", "redis-server")
}

pub(crate) fn valkey_server() -> PathBuf {
    tool("VALKEY_SERVER", "valkey-server")
}

/// Shifts the clock of a process that preloads it.
pub(crate) fn libfaketime() -> PathBuf {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/libfaketime.so.1");
    let found = env::var_os("FAKETIME_LIB").map_or(fetched, PathBuf::from);
    assert!(found.exists(), "libfaketime is missing: set FAKETIME_LIB, or run `make test`, which installs it");
    found
}
