//! Where policies come from.

use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use proto::xds::Options;

/// Where policies come from.
#[derive(Args, Clone, Debug)]
pub struct Source {
    /// Where the policies come from.
    #[arg(long, env = "EXTAUTH_CONFIG_TYPE", value_enum, default_value = "FILE")]
    pub config_type: ConfigType,
    /// Directory with the policies' YAML files; followed while it changes.
    #[arg(long, env = "EXTAUTH_CONFIG_DIR", default_value = "/etc/extauth")]
    pub config_dir: PathBuf,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment would become a text of --help")]
    pub xds: Xds,
}

/// The kinds of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ConfigType {
    /// YAML files in a directory.
    #[value(name = "FILE")]
    File,
    /// The controller, or another xDS server of such policies; deltas.
    #[value(name = "GRPC_XDS_DELTA")]
    GrpcXdsDelta,
}

/// How to reach the xDS server: `ratelimit`'s settings, with the prefix of this program's variables.
#[derive(Clone, Debug)]
pub struct Xds(pub Options);

/// Bytes of a response: a policy may hold a hundred thousand keys.
const MAX_MESSAGE_SIZE: &str = "67108864";

impl Args for Xds {
    fn augment_args(command: Command) -> Command {
        let shared = Options::augment_args(Command::new("xds").next_help_heading("Source of the policies"));
        command.args(shared.get_arguments().map(|argument| {
            let variable = argument.get_env().unwrap_or_default().to_string_lossy();
            let argument = argument.clone().env(format!("EXTAUTH_{variable}"));
            match &*variable {
                "CONFIG_GRPC_XDS_SERVER_URL" => argument.default_value("localhost:18001"),
                "XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES" => argument.default_value(MAX_MESSAGE_SIZE),
                _ => argument,
            }
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Xds {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Options::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::CommandFactory as _;

    use crate::settings::Settings;

    #[test]
    fn every_variable_has_the_prefix() {
        let command = Settings::command();
        let variables: Vec<_> = command.get_arguments().filter_map(|argument| argument.get_env()?.to_str()).collect();
        assert!(variables.contains(&"EXTAUTH_CONFIG_GRPC_XDS_SERVER_URL"));
        assert!(variables.contains(&"EXTAUTH_XDS_CLIENT_BACKOFF_INITIAL_INTERVAL"));
        assert!(variables.iter().all(|variable| variable.starts_with("EXTAUTH_")), "{variables:?}");
    }
}
