//! How requests are answered.

use clap::{ArgAction::Set, Args};

use super::go;
use crate::limiter::{Headers, OverrideDomains};

/// How requests are answered.
#[derive(Args, Clone, Debug)]
pub struct Answer {
    /// Answer OK to everything, while statuses and metrics tell what would have been denied
    #[arg(long, env, default_value = "false", action = Set, value_parser = go::boolean)]
    pub shadow_mode: bool,
    /// A denied request costs nothing of any limit; false counts it in all of them
    #[arg(long, env, default_value = "true", action = Set, value_parser = go::boolean)]
    pub stop_cache_key_increment_when_overlimit: bool,
    /// Deny only when all limits of a request are over
    #[arg(long, env, default_value = "false", action = Set, value_parser = go::boolean)]
    pub quota_mode: bool,
    /// Tell Envoy the request and the metadata of its rules in dynamic_metadata
    #[arg(long, env, default_value = "false", action = Set, value_parser = go::boolean)]
    pub response_dynamic_metadata: bool,
    /// Domains whose requests may bring limits of their own, DOMAIN,DOMAIN; those of others fall under the rules alone; * for all
    #[arg(long, env, default_value = "*")]
    pub limit_override_domains: OverrideDomains,
    /// Tell clients about their limit in response headers
    #[arg(long, env, default_value = "false", action = Set, value_parser = go::boolean)]
    pub limit_response_headers_enabled: bool,
    /// Header with the limit
    #[arg(long, env, default_value = "RateLimit-Limit")]
    pub limit_limit_header: String,
    /// Header with what is left of it
    #[arg(long, env, default_value = "RateLimit-Remaining")]
    pub limit_remaining_header: String,
    /// Header with the seconds until it is whole again
    #[arg(long, env, default_value = "RateLimit-Reset")]
    pub limit_reset_header: String,
}

impl Answer {
    /// The headers to tell clients about their limit in, if any.
    pub fn headers(&self) -> Option<Headers> {
        self.limit_response_headers_enabled.then(|| Headers {
            limit: self.limit_limit_header.clone(),
            remaining: self.limit_remaining_header.clone(),
            reset: self.limit_reset_header.clone(),
        })
    }
}
