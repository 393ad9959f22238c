//! A client that says what a test wants to see of an answer.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// What the client sees.
    pub(crate) headers: HeaderMap,
    /// As text.
    pub(crate) body: String,
}

impl Answer {
    /// A header's value, empty when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// What the echo backend saw of the request.
    pub(crate) fn echo(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("not the echo backend's answer ({error}): {self:?}"))
    }

    /// The values of a header as the backend saw it.
    pub(crate) fn echoed(&self, name: &str) -> Vec<String> {
        let values = &self.echo()["headers"][name];
        values.as_array().into_iter().flatten().map(|value| value.as_str().unwrap().to_owned()).collect()
    }
}

/// One GET on a connection of its own.
pub(crate) async fn get(
    address: SocketAddr,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Answer, Box<dyn std::error::Error>> {
    request(address, "GET", host, path, headers).await
}

/// The same with any method.
pub(crate) async fn request(
    address: SocketAddr,
    method: &str,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Answer, Box<dyn std::error::Error>> {
    let socket = TokioIo::new(TcpStream::connect(address).await?);
    let (mut client, connection) = hyper::client::conn::http1::handshake(socket).await?;
    tokio::spawn(connection);
    let request = headers
        .iter()
        .fold(Request::builder().method(method).uri(path).header("host", host), |request, (name, value)| {
            request.header(*name, *value)
        });
    let (parts, body) = client.send_request(request.body(Empty::<Bytes>::new())?).await?.into_parts();
    let body = String::from_utf8(body.collect().await?.to_bytes().to_vec())?;
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
}
