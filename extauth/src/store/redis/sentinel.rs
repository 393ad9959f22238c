//! Who is the primary? Sentinels say.

use std::collections::HashMap;
use std::time::Duration;

use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, RedisResult, cmd};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::login::Login;

/// How long one Sentinel may take to answer.
const DEADLINE: Duration = Duration::from_millis(500);

/// Asks all Sentinels at once; the address that most of them name.
pub(super) async fn primary(name: &str, sentinels: &[ConnectionInfo], login: &Login) -> RedisResult<ConnectionAddr> {
    let mut asking = JoinSet::new();
    for sentinel in sentinels {
        let (name, login, address) = (name.to_owned(), login.clone(), sentinel.addr().clone());
        asking.spawn(async move { timeout(DEADLINE, ask(&name, &address, &login)).await });
    }
    let mut votes: HashMap<(String, u16), usize> = HashMap::new();
    let mut failure = RedisError::from((ErrorKind::Client, "no Sentinel answers"));
    while let Some(answer) = asking.join_next().await {
        match answer {
            Ok(Ok(Ok(Some(address)))) => *votes.entry(address).or_default() += 1,
            Ok(Ok(Ok(None))) => failure = RedisError::from((ErrorKind::Client, "no Sentinel knows the primary's name")),
            Ok(Ok(Err(error))) => failure = error,
            _ => {}
        }
    }
    let ((host, port), _) = votes.into_iter().max_by_key(|(_, votes)| *votes).ok_or(failure)?;
    Ok(ConnectionAddr::Tcp(host, port))
}

async fn ask(name: &str, address: &ConnectionAddr, login: &Login) -> RedisResult<Option<(String, u16)>> {
    let client = Client::open(login.info(address).await?)?;
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name).query_async(&mut connection).await
}
