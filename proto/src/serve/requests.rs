//! The requests of one connection, on their way to the routes and back.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tonic::Status;
use tonic::service::Routes;
use tower::Service;

use super::life::Seen;
use super::peer::Peer;
use super::protocol::Protocol;

/// The HTTP/2 preface and the head of the client's settings, in bytes.
const GREETING: usize = 24 + 9;

/// What happens on a connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    read: AtomicUsize,
    begun: AtomicU64,
    open: AtomicUsize,
}

impl Activity {
    pub(super) fn read(&self, bytes: usize) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn seen(&self, protocol: Protocol) -> Seen {
        let begun = self.begun.load(Ordering::Relaxed);
        let greeted = match protocol {
            Protocol::Grpc => self.read.load(Ordering::Relaxed) >= GREETING,
            Protocol::Http => begun > 0,
        };
        Seen { greeted, begun, open: self.open.load(Ordering::Relaxed) }
    }
}

/// A request that is not answered to its end.
#[derive(Debug)]
pub(super) struct Open(Arc<Activity>);

impl Open {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.begun.fetch_add(1, Ordering::Relaxed);
        activity.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The service of one connection.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    pub(super) routes: Routes,
    pub(super) peer: Peer,
    pub(super) activity: Arc<Activity>,
    pub(super) protocol: Protocol,
}

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Answering<<Routes as Service<Request<Incoming>>>::Future>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let open = Some(Open::begin(&self.activity));
        request.extensions_mut().insert(self.peer.clone());
        let kind = request.headers().get(http::header::CONTENT_TYPE);
        let grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        Answering { answer: self.routes.clone().call(request), open, grpc, protocol: self.protocol }
    }
}

/// An answer in the making. A handler that panics answers INTERNAL, or 500 to those who do not speak gRPC, and harms no other
/// request.
#[derive(Debug)]
pub(super) struct Answering<F> {
    answer: F,
    open: Option<Open>,
    grpc: bool,
    protocol: Protocol,
}

impl<F> Future for Answering<F>
where
    F: Future<Output = Result<Response<tonic::body::Body>, Infallible>> + Unpin,
{
    type Output = Result<Response<Answer>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = &mut self.answer;
        // What panicked is not polled again.
        let polled = panic::catch_unwind(AssertUnwindSafe(|| Pin::new(answer).poll(context)));
        let response = match polled {
            Ok(polled) => match ready!(polled) {
                Ok(response) => response,
                Err(never) => match never {},
            },
            Err(panic) => self.internal(panic.as_ref()),
        };
        let open = self.open.take();
        Poll::Ready(Ok(response.map(|body| Answer { body, _open: open })))
    }
}

impl<F> Answering<F> {
    /// Never 200 outside gRPC: whoever asks over HTTP would take that for a yes.
    fn internal(&self, panic: &(dyn Any + Send)) -> Response<tonic::body::Body> {
        let reason = panic.downcast_ref::<&str>().copied();
        let reason = reason.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown");
        tracing::error!(reason, "a request's handler panicked; it is answered INTERNAL");
        metrics::counter!(self.protocol.panicked()).increment(1);
        if self.grpc {
            return Status::internal("the server failed at this request").into_http();
        }
        let mut response = Response::new(tonic::body::Body::empty());
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        response
    }
}

/// An answer's body.
#[derive(Debug)]
pub(super) struct Answer {
    body: tonic::body::Body,
    _open: Option<Open>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
