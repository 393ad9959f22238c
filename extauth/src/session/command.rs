//! What whoever runs this can do about sessions: see a user's, and end them.

use super::Sessions;
use crate::resources::{self, Resources, Storage};
use crate::session;
use crate::settings::Settings;

/// What to do about a user's sessions.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// List them: hash of the id, provider, seconds since 1970 of the login.
    List(User),
    /// End them, on every replica.
    Revoke(User),
}

/// A user of an issuer.
#[derive(Clone, Debug, clap::Args)]
pub struct User {
    /// The issuer, as policies name it.
    #[arg(long)]
    pub issuer: String,
    /// The issuer's name for the user: the claim `sub`.
    #[arg(long)]
    pub subject: String,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// There is nothing to look at from outside.
    #[error("the sessions of a server without Redis are in its memory, and end with it")]
    #[diagnostic(help("name the servers' Redis in EXTAUTH_REDIS_URL"))]
    Memory,
    /// See [`resources::Error`].
    #[error(transparent)]
    Resources(#[from] resources::Error),
    /// See [`session::Error`].
    #[error(transparent)]
    Session(#[from] session::Error),
    /// No runtime.
    #[error("setting up the process")]
    Setup(#[from] std::io::Error),
}

impl Command {
    /// Does it, and returns what is to be printed.
    pub fn run(&self, settings: &Settings) -> Result<String, Error> {
        let options = settings.resources();
        if matches!(options.store, Storage::Memory(_)) {
            return Err(Error::Memory);
        }
        let resources = Resources::new(&options)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(self.ask(&resources.sessions))?)
    }

    async fn ask(&self, sessions: &Sessions) -> Result<String, session::Error> {
        match self {
            Self::List(user) => {
                let all = sessions.list(&user.issuer, &user.subject).await?;
                let lines = all.iter().map(|one| format!("{} {} {}\n", one.session, one.provider, one.created));
                Ok(lines.collect::<Vec<_>>().concat())
            }
            Self::Revoke(user) => {
                let ended = sessions.revoke(&user.issuer, &user.subject).await?;
                Ok(format!("{ended} sessions ended\n"))
            }
        }
    }
}
