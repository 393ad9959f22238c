//! Finds the descriptor set that `envoy-types` ships (the crate has no constant for it) and tells `src/descriptors.rs` its path.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../Cargo.lock");
    let path = match descriptor_set() {
        Ok(path) => path,
        Err(reason) => {
            println!("cargo::error=looking for the descriptor set of envoy-types: {reason}");
            return;
        }
    };
    println!("cargo::rustc-env=ENVOY_DESCRIPTOR_SET={}", path.display());
}

/// `src/generated/types.bin` beside the manifest of the one `envoy-types` in this build's graph.
fn descriptor_set() -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").ok_or("CARGO is not set")?;
    let target = std::env::var("TARGET").map_err(|error| format!("TARGET: {error}"))?;
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &target])
        .output()
        .map_err(|error| format!("running `cargo metadata`: {error}"))?;
    if !output.status.success() {
        return Err(format!("`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("reading what `cargo metadata` printed: {error}"))?;
    let manifest = metadata["packages"]
        .as_array()
        .and_then(|packages| packages.iter().find(|package| package["name"] == "envoy-types"))
        .and_then(|package| package["manifest_path"].as_str())
        .ok_or("no package `envoy-types` in the graph")?;
    let path = PathBuf::from(manifest).with_file_name("src").join("generated/types.bin");
    if path.is_file() { Ok(path) } else { Err(format!("{} is not there", path.display())) }
}
