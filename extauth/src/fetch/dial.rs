//! Where connections go: to the host in the URL, or to one address whatever the URL says.

use std::task::{Context, Poll};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use tower::Service;

/// Connects without TLS, which comes on top of it and checks the URL's own host.
#[derive(Clone, Debug)]
pub(super) struct Dial {
    http: HttpConnector,
    address: Option<Uri>,
}

impl Dial {
    pub(super) fn new(address: Option<Uri>) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        Self { http, address }
    }
}

impl Service<Uri> for Dial {
    type Response = <HttpConnector as Service<Uri>>::Response;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = <HttpConnector as Service<Uri>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.http.poll_ready(context)
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        self.http.call(self.address.clone().unwrap_or(url))
    }
}
