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

    pub(super) fn seen(&self) -> Seen {
        Seen {
            read: self.read.load(Ordering::Relaxed),
            begun: self.begun.load(Ordering::Relaxed),
            open: self.open.load(Ordering::Relaxed),
        }
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
}

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Answering<<Routes as Service<Request<Incoming>>>::Future>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let open = Some(Open::begin(&self.activity));
        request.extensions_mut().insert(self.peer.clone());
        Answering { answer: self.routes.clone().call(request), open }
    }
}

/// An answer in the making. A handler that panics answers INTERNAL, and harms no other request.
#[derive(Debug)]
pub(super) struct Answering<F> {
    answer: F,
    open: Option<Open>,
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
            Err(panic) => internal(panic.as_ref()),
        };
        let open = self.open.take();
        Poll::Ready(Ok(response.map(|body| Answer { body, _open: open })))
    }
}

fn internal(panic: &(dyn Any + Send)) -> Response<tonic::body::Body> {
    let reason = panic.downcast_ref::<&str>().copied();
    let reason = reason.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown");
    tracing::error!(reason, "a request's handler panicked; it is answered INTERNAL");
    metrics::counter!("grpc_handler_panics_total").increment(1);
    Status::internal("the server failed at this request").into_http()
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
