//! The `Check` call on the wire. The code that is generated for it would build every question and every answer as a tree
//! first; this one hands on the question as it came, and writes what is known in its encoded form as it is.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use bytes::{Buf as _, Bytes};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};

use super::{LARGEST_REQUEST, judge};
use crate::check::Check;
use crate::policy::Policies;
use crate::verdict::Verdict;

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// `envoy.service.auth.v3.Authorization` with the policies of an [`Authorizer`](super::Authorizer). It is cloned for each
/// question, and therefore holds nothing else.
#[derive(Clone, Debug)]
pub struct Server(pub(super) Arc<ArcSwap<Policies>>);

impl NamedService for Server {
    const NAME: &'static str = "envoy.service.auth.v3.Authorization";
}

impl Service<http::Request<Body>> for Server {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let call = Call(Arc::clone(&self.0));
        Box::pin(async move {
            if request.uri().path() != CHECK {
                return Ok(Status::unimplemented("").into_http());
            }
            let mut grpc = Grpc::new(Verdicts).max_decoding_message_size(LARGEST_REQUEST);
            Ok(grpc.unary(call, request).await)
        })
    }
}

struct Call(Arc<ArcSwap<Policies>>);

impl UnaryService<Bytes> for Call {
    type Response = Verdict;
    type Future = BoxFuture<Response<Verdict>, Status>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let policies = Arc::clone(&self.0);
        Box::pin(async move {
            let check = Check::decode(request.get_ref(), SystemTime::now());
            Ok(Response::new(judge(&policies, check).await))
        })
    }
}

/// Questions as they came, answers as they are [encoded](Verdict::encode).
#[derive(Clone, Copy, Debug)]
struct Verdicts;

impl Codec for Verdicts {
    type Encode = Verdict;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self::Decoder {
        *self
    }
}

impl Decoder for Verdicts {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

impl Encoder for Verdicts {
    type Item = Verdict;
    type Error = Status;

    fn encode(&mut self, verdict: Verdict, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        verdict.encode(buffer).map_err(|error| Status::internal(format!("cannot encode the answer: {error}")))
    }
}
