//! `extauth tokens`: revokes tokens from the command line.

use std::time::Duration;

use crate::background::Background;
use crate::resources::Storage;
use crate::revocation::{Error, Revocation, Target, revoke};
use crate::settings::{Revoke, Tokens};
use crate::store::{Redis, Store};

/// Does it and prints what came of it.
pub fn run(storage: &Storage, action: &Tokens) -> Result<(), Error> {
    let Storage::Redis(options) = storage else { return Err(Error::NoStore) };
    let Tokens::Revoke(Revoke { id, subject, issuer, for_seconds }) = action;
    let targets = id.clone().map(Target::Id).into_iter().chain(subject.clone().map(Target::Subject));
    let store = Store::Redis(Redis::new(options.clone(), Background::start()?)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        for target in targets {
            let revocation = Revocation::now(target, issuer.clone());
            revoke(&store, &revocation, Duration::from_secs(*for_seconds)).await?;
            println!("revoked for {for_seconds} seconds");
        }
        Ok(())
    })
}
