//! One single-threaded runtime a core: no work is stolen, and a request never changes threads.

use std::panic;
use std::thread;

use tokio::runtime;

use super::{Error, Listener};
use crate::drain::Trigger;

/// Runs `body(core, listener)` for every listener on a thread and a runtime of its own, and returns when all have ended, with the first error.
///
/// A core never ends alone: when one does, for whatever reason, `trigger` drains the others.
pub fn per_core<F, E>(listeners: Vec<Listener>, trigger: &Trigger, body: F) -> Result<(), E>
where
    F: AsyncFn(usize, Listener) -> Result<(), E> + Sync,
    E: From<Error> + Send,
{
    let body = &body;
    thread::scope(|scope| {
        let run = |core, listener| {
            let thread = thread::Builder::new().name(format!("core-{core}"));
            thread.spawn_scoped(scope, move || {
                let _last = DrainOnDrop(trigger);
                let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
                runtime.block_on(body(core, listener))
            })
        };
        let threads: Vec<_> = listeners.into_iter().enumerate().map(|(core, listener)| run(core, listener)).collect();
        if threads.iter().any(Result::is_err) {
            trigger.drain();
        }
        let mut outcome = Ok(());
        for thread in threads {
            let ended = match thread {
                Ok(thread) => thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic)),
                Err(error) => Err(Error::Runtime(error).into()),
            };
            outcome = outcome.and(ended);
        }
        outcome
    })
}

struct DrainOnDrop<'a>(&'a Trigger);

impl Drop for DrainOnDrop<'_> {
    fn drop(&mut self) {
        self.0.drain();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::collections::HashSet;
    use std::sync::Mutex;

    use super::*;
    use crate::drain;

    #[test]
    fn one_core_that_fails_takes_the_others_down() {
        let (trigger, signal) = drain::new();
        let listeners = Listener::bind_per_core(&"127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let threads = Mutex::new(HashSet::new());
        let outcome = per_core(listeners, &trigger, async |core, _listener| {
            threads.lock().unwrap().insert(thread::current().id());
            if core == 1 {
                return Err(Error::Address("core 1".to_owned()));
            }
            signal.clone().wait().await;
            Ok(())
        });
        assert!(matches!(outcome, Err(Error::Address(text)) if text == "core 1"));
        assert_eq!(threads.lock().unwrap().len(), 3);
    }
}
