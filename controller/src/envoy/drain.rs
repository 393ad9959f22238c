//! Lets an Envoy finish what it is at, through its admin socket.

use std::{io, path::Path, time::Duration};

use bytes::Bytes;
use http::{Method, Request, header::HOST};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// How often Envoy is asked whether requests are still in flight.
const POLL: Duration = Duration::from_millis(50);

/// Closes the listeners, and waits until no request is in flight.
pub(super) async fn requests(admin: &Path) -> io::Result<()> {
    let (mut client, connection) =
        handshake(TokioIo::new(UnixStream::connect(admin).await?)).await.map_err(io::Error::other)?;
    let exchange = async {
        ask(&mut client, Method::POST, "/drain_listeners").await?;
        while in_flight(&ask(&mut client, Method::GET, "/stats?filter=downstream_rq_active").await?) {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    };
    tokio::select! {
        outcome = exchange => outcome,
        ended = connection => Err(ended.err().map_or(io::ErrorKind::ConnectionReset.into(), io::Error::other)),
    }
}

/// Some server but the admin server itself has requests to answer, as lines such as `http.x.downstream_rq_active: 1` say.
fn in_flight(stats: &str) -> bool {
    let counts = stats.lines().filter(|line| !line.starts_with("http.admin.")).filter_map(|line| line.split_once(": "));
    counts.filter(|(name, _)| name.ends_with("downstream_rq_active")).any(|(_, count)| count != "0")
}

pub(super) async fn ask(client: &mut SendRequest<Empty<Bytes>>, method: Method, path: &str) -> io::Result<String> {
    let request = Request::builder().method(method).uri(path).header(HOST, "envoy").body(Empty::new());
    let response = client.send_request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
    let body = response.into_body().collect().await.map_err(io::Error::other)?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_requests_do_not_count() {
        let stats = "http.admin.downstream_rq_active: 1\nhttp.http-80.downstream_rq_active: ";
        assert!(!in_flight(&format!("{stats}0\n")));
        assert!(in_flight(&format!("{stats}12\n")));
    }
}
