//! Requests to issuers that are down, slow or huge.

use std::net::SocketAddr;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Redirect;
use axum::routing::get;
use bytes::Bytes;
use extauth::fetch::{Error, LARGEST_ANSWER};
use http::{Request, Response};

use crate::support::resources;

async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

async fn get_from(address: SocketAddr, path: &str) -> Result<Response<Bytes>, Error> {
    let request = Request::get(format!("http://{address}{path}")).body(Bytes::new()).unwrap();
    resources().fetch.send(request).await
}

#[tokio::test]
async fn answers_come_as_they_are_and_redirects_are_not_followed() {
    let router = Router::new()
        .route("/", get(|| async { (StatusCode::IM_A_TEAPOT, "short") }))
        .route("/moved", get(|| async { Redirect::temporary("/") }));
    let address = serve(router).await;
    let answer = get_from(address, "/").await.unwrap();
    assert_eq!((answer.status(), answer.body().as_ref()), (StatusCode::IM_A_TEAPOT, b"short".as_slice()));
    assert_eq!(get_from(address, "/moved").await.unwrap().status(), StatusCode::TEMPORARY_REDIRECT);
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_read() {
    let large = |extra: usize| get(move || async move { vec![b' '; LARGEST_ANSWER + extra] });
    let address = serve(Router::new().route("/fits", large(0)).route("/large", large(1))).await;
    assert_eq!(get_from(address, "/fits").await.unwrap().body().len(), LARGEST_ANSWER);
    assert!(matches!(get_from(address, "/large").await, Err(Error::Answer(_))));
}

#[tokio::test]
async fn an_issuer_that_is_down_is_an_error_that_says_so() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = get_from(address, "/").await.unwrap_err();
    assert!(matches!(&error, Error::Connect(reason) if reason.contains("refused")), "{error}");
}

#[tokio::test]
async fn an_issuer_that_never_answers_is_given_up() {
    let address = serve(Router::new().route("/", get(std::future::pending::<()>))).await;
    assert!(matches!(get_from(address, "/").await, Err(Error::Timeout)));
}
