//! The thread behind all questions.

use extauth::background::Background;
use tokio::sync::oneshot;

#[test]
fn it_ends_with_its_last_clone() {
    let background = Background::start().unwrap();
    let (held, dropped) = oneshot::channel::<()>();
    let _task = background.clone().spawn(async move {
        let _held = held;
        std::future::pending::<()>().await;
    });
    drop(background);
    assert!(dropped.blocking_recv().is_err(), "its tasks are dropped");
}
