//! What is asked of a server, and what its answers mean.

use std::fmt;

use ::http::{HeaderMap, HeaderName, Request, header};
use bytes::{BufMut, Bytes, BytesMut};
use rand::rngs::SmallRng;
use tonic::Status;

pub mod authz;
pub mod http;
pub mod rls;
pub mod sent;

/// One kind of exchange with a server: makes up requests and judges answers. Its `Display` says in a line what it asks.
pub trait Target: fmt::Display + Send + Sync + 'static {
    /// The kinds of good answers, in the order in which reports list them.
    const VERDICTS: &'static [&'static str];

    /// A request: its head and its whole body.
    fn request(&self, rng: &mut SmallRng) -> (Request<()>, Bytes);

    /// The verdict that an answer holds (one of [`Target::VERDICTS`]), or what is wrong with it.
    fn verdict(&self, answer: &Answer) -> Result<&'static str, String>;
}

/// A complete HTTP/2 answer.
#[derive(Debug)]
pub struct Answer {
    /// Status and headers.
    pub head: ::http::response::Parts,
    /// The whole body.
    pub body: Bytes,
    /// The trailers, if there are any.
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    /// The one message of a unary gRPC answer, or the gRPC or HTTP status that the server gave instead.
    pub fn grpc_message(&self) -> Result<Bytes, String> {
        if self.head.status != ::http::StatusCode::OK {
            return Err(format!("HTTP status {}", self.head.status.as_u16()));
        }
        // A server that has nothing but a status to send puts it into the headers.
        let statuses = self.trailers.as_ref().unwrap_or(&self.head.headers);
        if statuses.get("grpc-status").is_none_or(|status| status != "0") {
            return Err(grpc_error(statuses));
        }
        match self.body.get(..5) {
            Some(&[0, a, b, c, d]) if self.body.len() - 5 == u32::from_be_bytes([a, b, c, d]) as usize => {
                Ok(self.body.slice(5..))
            }
            _ => Err("not one uncompressed gRPC message".to_owned()),
        }
    }
}

/// The status and its message, in words.
fn grpc_error(statuses: &HeaderMap) -> String {
    // Only these two: nothing else in the trailers says how the call ended.
    let known = ["grpc-status", "grpc-message"].map(HeaderName::from_static);
    let known = known.into_iter().filter_map(|name| statuses.get(&name).map(|value| (name, value.clone()))).collect();
    match Status::from_header_map(&known) {
        Some(status) => format!("gRPC status {:?} {}", status.code(), status.message()).trim_end().to_owned(),
        None => "no gRPC status".to_owned(),
    }
}

/// The head of a unary gRPC request to `path` of the server at `authority`.
pub fn grpc_request(authority: &str, path: &str) -> Result<Request<()>, ::http::Error> {
    Request::post(format!("http://{authority}{path}"))
        .version(::http::Version::HTTP_2)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(())
}

/// A message with the prefix that gRPC puts before it: not compressed, and its length.
pub fn grpc_frame(message: &impl prost::Message) -> BytesMut {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(5 + length);
    frame.put_u8(0);
    // A message of 4 GiB cannot be encoded in memory anyway; the server would refuse the length.
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    frame.put_slice(&message.encode_to_vec());
    frame
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn answer(body: &'static [u8], trailers: &[(&'static str, &str)]) -> Answer {
        let trailers = trailers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let (head, ()) = ::http::Response::new(()).into_parts();
        Answer { head, body: Bytes::from_static(body), trailers: Some(trailers) }
    }

    #[test]
    fn reads_a_message() {
        let good = answer(b"\0\0\0\0\x02ab", &[("grpc-status", "0")]);
        assert_eq!(good.grpc_message().unwrap(), "ab");
    }

    #[test]
    fn says_why_there_is_none() {
        let unavailable = answer(b"", &[("grpc-status", "14"), ("grpc-message", "going%20away")]);
        assert_eq!(unavailable.grpc_message().unwrap_err(), "gRPC status Unavailable going away");
        let details = answer(b"", &[("grpc-status", "9"), ("grpc-status-details-bin", "no base64!")]);
        assert_eq!(details.grpc_message().unwrap_err(), "gRPC status FailedPrecondition");
        assert_eq!(answer(b"", &[]).grpc_message().unwrap_err(), "no gRPC status");
        for body in [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x03ab", b"\x01\0\0\0\x02ab", b"\0\0\0\0\x01ab"] {
            let error = answer(body, &[("grpc-status", "0")]).grpc_message().unwrap_err();
            assert_eq!(error, "not one uncompressed gRPC message", "{body:?}");
        }
        let mut not_found = answer(b"", &[("grpc-status", "0")]);
        not_found.head.status = ::http::StatusCode::NOT_FOUND;
        assert_eq!(not_found.grpc_message().unwrap_err(), "HTTP status 404");
    }
}
