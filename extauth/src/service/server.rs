//! The `Check` call on the wire. The code that is generated for it would build every answer as a tree first; this one writes
//! what is known in its encoded form as it is.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::SystemTime;

use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use tonic::body::Body;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::{Authorizer, LARGEST_REQUEST};
use crate::verdict::Verdict;

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// `envoy.service.auth.v3.Authorization` with the policies of an [`Authorizer`].
#[derive(Clone, Debug)]
pub struct Server(pub(super) Authorizer);

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
        let call = Call(self.0.clone());
        Box::pin(async move {
            if request.uri().path() != CHECK {
                return Ok(Status::unimplemented("").into_http());
            }
            let mut grpc = Grpc::new(Verdicts).max_decoding_message_size(LARGEST_REQUEST);
            Ok(grpc.unary(call, request).await)
        })
    }
}

struct Call(Authorizer);

impl UnaryService<CheckRequest> for Call {
    type Response = Verdict;
    type Future = BoxFuture<Response<Verdict>, Status>;

    fn call(&mut self, request: Request<CheckRequest>) -> Self::Future {
        let authorizer = self.0.clone();
        Box::pin(async move { Ok(Response::new(authorizer.verdict(request.get_ref(), SystemTime::now()).await)) })
    }
}

/// Questions as protobuf, answers as they are [encoded](Verdict::encode).
#[derive(Clone, Copy, Debug)]
struct Verdicts;

impl Codec for Verdicts {
    type Encode = Verdict;
    type Decode = CheckRequest;
    type Encoder = Self;
    type Decoder = <ProstCodec<CheckResponse, CheckRequest> as Codec>::Decoder;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<CheckResponse, CheckRequest>::raw_decoder(BufferSettings::default())
    }
}

impl Encoder for Verdicts {
    type Item = Verdict;
    type Error = Status;

    fn encode(&mut self, verdict: Verdict, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        verdict.encode(buffer).map_err(|error| Status::internal(format!("cannot encode the answer: {error}")))
    }
}
