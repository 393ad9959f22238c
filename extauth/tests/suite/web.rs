//! A web server whose answers a test chooses, and that counts how often it is asked.

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode, Uri, header};
use axum::response::IntoResponse;
use tokio::sync::oneshot;

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Body(StatusCode, String),
    /// To another address.
    Redirect(String),
    /// Never.
    Hang,
    /// After a while.
    Slow(Duration, String),
}

impl Reply {
    pub(crate) fn ok(body: impl Into<String>) -> Self {
        Self::Body(StatusCode::OK, body.into())
    }

    pub(crate) fn error() -> Self {
        Self::Body(StatusCode::INTERNAL_SERVER_ERROR, "<h1>internal secret</h1>".to_owned())
    }
}

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: String,
}

#[derive(Debug, Default)]
struct Log {
    asked: Mutex<Vec<Asked>>,
    more: Condvar,
}

type Answers = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

/// Ends with the test.
pub(crate) struct Web {
    pub(crate) address: SocketAddr,
    answers: Arc<Mutex<Answers>>,
    log: Arc<Log>,
    _end: oneshot::Sender<()>,
}

impl Web {
    pub(crate) fn new(answers: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let answers: Arc<Mutex<Answers>> = Arc::new(Mutex::new(Arc::new(answers)));
        let log = Arc::new(Log::default());
        let state = (Arc::clone(&answers), Arc::clone(&log));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = oneshot::channel::<()>();
        thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let router = Router::new().fallback(answer).with_state(state);
                tokio::select! {
                    served = axum::serve(listener, router) => served.unwrap(),
                    _ = ended => {}
                }
            });
        });
        Self { address, answers, log, _end: end }
    }

    /// Always the same.
    pub(crate) fn replying(reply: Reply) -> Self {
        Self::new(move |_| reply.clone())
    }

    /// From now on.
    pub(crate) fn reply(&self, reply: Reply) {
        *lock(&self.answers) = Arc::new(move |_| reply.clone());
    }

    /// From now on, by the path that is asked for.
    pub(crate) fn answer_by_path(&self, answers: impl Fn(&str) -> Reply + Send + Sync + 'static) {
        *lock(&self.answers) = Arc::new(move |asked| answers(&asked.path));
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        lock(&self.log.asked).clone()
    }

    /// Waits until it was asked so often.
    pub(crate) fn asked_times(&self, times: usize) -> Vec<Asked> {
        let asked = lock(&self.log.asked);
        let patience = Duration::from_mins(1);
        let waiting = self.log.more.wait_timeout_while(asked, patience, |asked| asked.len() < times);
        let (asked, waited) = waiting.unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "asked {} times only", asked.len());
        asked.clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(
    State((answers, log)): State<(Arc<Mutex<Answers>>, Arc<Log>)>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> axum::response::Response {
    let asked = Asked {
        path: uri.path().to_owned(),
        authorization: headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned()),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let answer = Arc::clone(&lock(&answers));
    let reply = answer(&asked);
    lock(&log.asked).push(asked);
    log.more.notify_all();
    match reply {
        Reply::Body(status, body) => (status, body).into_response(),
        Reply::Redirect(to) => {
            let moved = Response::builder().status(StatusCode::FOUND).header(header::LOCATION, to);
            moved.body(axum::body::Body::empty()).unwrap()
        }
        Reply::Hang => std::future::pending().await,
        Reply::Slow(after, body) => {
            tokio::time::sleep(after).await;
            body.into_response()
        }
    }
}
