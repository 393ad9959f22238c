//! What `extauth tokens` is told.

use clap::{Args, Subcommand};

/// What is done with tokens.
#[derive(Clone, Debug, Subcommand)]
pub enum Tokens {
    /// Deny tokens that are signed and in time, also where they are cached.
    Revoke(Revoke),
}

/// Which tokens, and for how long.
#[derive(Args, Clone, Debug)]
pub struct Revoke {
    /// `jti` of the token.
    #[arg(long, required_unless_present = "subject")]
    pub id: Option<String>,
    /// `sub` of all tokens that were issued until now.
    #[arg(long)]
    pub subject: Option<String>,
    /// `iss` of the tokens; any by default.
    #[arg(long)]
    pub issuer: Option<String>,
    /// Seconds after which they must have expired by themselves.
    #[arg(long, default_value_t = 86_400)]
    pub for_seconds: u64,
}
