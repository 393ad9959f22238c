//! Where connections go: to the host in the URL, or to one of some addresses whatever the URL says.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use tower::Service;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Response = <HttpConnector as Service<Uri>>::Response;

/// How long one of several addresses may take to answer before the next one is tried.
const TURN: Duration = Duration::from_secs(1);

/// Connects without TLS, which comes on top of it and checks the URL's own host.
#[derive(Clone, Debug)]
pub(super) struct Dial {
    http: HttpConnector,
    addresses: Option<Arc<Addresses>>,
}

#[derive(Debug)]
struct Addresses {
    all: Vec<Uri>,
    /// Where the next connection begins, so that all get their share.
    next: AtomicUsize,
}

impl Dial {
    /// To the hosts in URLs.
    pub(super) fn anywhere() -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        Self { http, addresses: None }
    }

    /// To one of these.
    pub(super) fn to(addresses: Vec<Uri>) -> Self {
        let addresses = Addresses { all: addresses, next: AtomicUsize::new(0) };
        Self { addresses: Some(Arc::new(addresses)), ..Self::anywhere() }
    }
}

impl Addresses {
    /// All of them, beginning with another one each time.
    fn in_turn(&self) -> Vec<Uri> {
        let mut addresses = self.all.clone();
        if !addresses.is_empty() {
            let first = self.next.fetch_add(1, Ordering::Relaxed) % addresses.len();
            addresses.rotate_left(first);
        }
        addresses
    }
}

impl Service<Uri> for Dial {
    type Response = Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.http.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let mut http = self.http.clone();
        let Some(addresses) = &self.addresses else {
            return Box::pin(async move { Ok(http.call(url).await?) });
        };
        let addresses = addresses.in_turn();
        Box::pin(async move {
            let mut failure: BoxError = io::Error::other("there are no addresses").into();
            let last = addresses.len().saturating_sub(1);
            for (index, address) in addresses.into_iter().enumerate() {
                // The connector is always ready.
                let attempt = http.call(address);
                let outcome = if index == last { Ok(attempt.await) } else { tokio::time::timeout(TURN, attempt).await };
                match outcome {
                    Ok(Ok(connection)) => return Ok(connection),
                    Ok(Err(error)) => failure = error.into(),
                    Err(slow) => failure = slow.into(),
                }
            }
            Err(failure)
        })
    }
}
