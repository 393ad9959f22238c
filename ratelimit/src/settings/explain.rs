//! Arguments of `ratelimit explain`.

use std::path::PathBuf;

use clap::Args;
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;

use super::Output;
use crate::explain::{self, Pairs};

/// Which request to explain, and who is to explain it.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Explain {
    /// The request's domain
    #[arg(long)]
    pub domain: String,
    /// Entries of a descriptor, in order; the value is all that follows the first =
    #[arg(value_name = "KEY=VALUE", value_parser = Pairs::one, required_unless_present = "descriptor")]
    pub entries: Vec<(String, String)>,
    /// A further descriptor; may be repeated
    #[arg(long, value_name = "KEY=VALUE,KEY=VALUE")]
    pub descriptor: Vec<Pairs>,
    /// Hits that each descriptor costs, 1 if zero
    #[arg(long, value_name = "N", default_value = "0")]
    pub hits_addend: u32,
    /// URL of the debug port of a running instance; http://127.0.0.1:6070, or the DEBUG_PORT that is set, if not given
    #[arg(long)]
    pub url: Option<String>,
    /// Explain by the files of a directory, without a server and without counts; OVERRIDES_DIR lies over them
    #[arg(long, conflicts_with = "url")]
    pub dir: Option<PathBuf>,
    /// text or json
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
}

impl Explain {
    /// The request.
    pub fn request(&self) -> RateLimitRequest {
        let first = (!self.entries.is_empty()).then(|| Pairs(self.entries.clone()));
        let descriptors = first.into_iter().chain(self.descriptor.iter().cloned());
        explain::request(&self.domain, descriptors, self.hits_addend)
    }
}
