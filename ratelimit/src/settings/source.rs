//! Where the configuration comes from.

use std::path::PathBuf;

use clap::{ArgAction::Set, Args, ValueEnum};
use proto::xds;

use super::go;
use crate::{config::Domains, source::dir::Place};

/// Where the configuration comes from.
#[derive(Args, Clone, Debug)]
pub struct Source {
    /// Where the configuration comes from
    #[arg(long, env, value_enum, default_value = "FILE")]
    pub config_type: ConfigType,
    #[expect(missing_docs, reason = "a comment would become the text of --help")]
    #[command(flatten)]
    pub xds: xds::Options,
    /// Let several files or resources share a domain, and merge their descriptors
    #[arg(long, env, default_value = "false", action = Set, value_parser = go::boolean)]
    pub merge_domain_config: bool,
    /// Listen before there is a configuration; until then requests get errors
    #[arg(long, env, default_value = "false", action = Set, value_parser = go::boolean)]
    pub force_start_without_initial_config: bool,
    /// With FILE the configuration is in RUNTIME_ROOT/RUNTIME_SUBDIRECTORY/RUNTIME_APPDIRECTORY, one domain a file
    #[arg(long, env, default_value = "/srv/runtime_data/current")]
    pub runtime_root: PathBuf,
    /// See RUNTIME_ROOT
    #[arg(long, env, default_value = "")]
    pub runtime_subdirectory: String,
    /// See RUNTIME_ROOT
    #[arg(long, env, default_value = "config")]
    pub runtime_appdirectory: String,
    /// Whether RUNTIME_ROOT is a symbolic link that is swapped; then all files below RUNTIME_ROOT/RUNTIME_SUBDIRECTORY are read whose path, with dots for slashes, begins with RUNTIME_APPDIRECTORY and a dot; else all files below RUNTIME_ROOT/RUNTIME_SUBDIRECTORY/RUNTIME_APPDIRECTORY
    #[arg(long, env, default_value = "true", action = Set, value_parser = go::boolean)]
    pub runtime_watch_root: bool,
    /// Do not read files whose name begins with a dot; those with two dots are never read
    #[arg(long, env, default_value = "true", action = Set, value_parser = go::boolean)]
    pub runtime_ignoredotfiles: bool,
    /// Do not be healthy before a configuration has been loaded
    #[arg(long, env, default_value = "false", action = Set, value_parser = go::boolean)]
    pub healthy_with_at_least_one_config_loaded: bool,
}

/// The kinds of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ConfigType {
    /// YAML files in a directory.
    #[value(name = "FILE")]
    File,
    /// An xDS server, state of the world.
    #[value(name = "GRPC_XDS_SOTW")]
    GrpcXdsSotw,
}

impl Source {
    /// The files.
    pub fn place(&self) -> Place {
        let below_root = self.runtime_root.join(&self.runtime_subdirectory);
        let (dir, prefix) = if self.runtime_watch_root {
            (below_root, self.runtime_appdirectory.trim_matches('/').replace('/', "."))
        } else {
            (below_root.join(&self.runtime_appdirectory), String::new())
        };
        Place { dir, prefix, dot_files: !self.runtime_ignoredotfiles, link: Some(self.runtime_root.clone()) }
    }

    /// Whether several files may share a domain.
    pub fn domains(&self) -> Domains {
        if self.merge_domain_config { Domains::Merged } else { Domains::Distinct }
    }
}
