//! What waits to be looked at: first in, first out, each at most once, some not before their time.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Instant,
};

use controller_core::ir::ObjectRef;

/// Objects that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    ready: VecDeque<ObjectRef>,
    waiting: HashSet<ObjectRef>,
    later: HashMap<ObjectRef, Instant>,
}

impl Queue {
    /// Enters an object, unless it is there already.
    pub(super) fn push(&mut self, object: ObjectRef) {
        if self.waiting.insert(object.clone()) {
            self.ready.push_back(object);
        }
    }

    /// Enters an object that is to wait until `at`.
    pub(super) fn push_later(&mut self, object: ObjectRef, at: Instant) {
        self.later.insert(object, at);
    }

    /// The next object, or when there will be one.
    pub(super) fn pop(&mut self, now: Instant) -> Result<ObjectRef, Option<Instant>> {
        let due: Vec<_> = self.later.iter().filter(|(_, at)| **at <= now).map(|(object, _)| object.clone()).collect();
        for object in due {
            self.later.remove(&object);
            self.push(object);
        }
        match self.ready.pop_front() {
            Some(object) => {
                self.waiting.remove(&object);
                Ok(object)
            }
            None => Err(self.later.values().min().copied()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn object(name: &str) -> ObjectRef {
        ObjectRef { kind: "HTTPRoute", namespace: "ns".into(), name: name.into() }
    }

    #[test]
    fn each_comes_once_in_order_and_in_time() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut queue = Queue::default();
        queue.push(object("b"));
        queue.push(object("a"));
        queue.push(object("b"));
        queue.push_later(object("c"), later);
        assert_eq!(queue.pop(now), Ok(object("b")));
        queue.push(object("b"));
        assert_eq!(queue.pop(now), Ok(object("a")));
        assert_eq!(queue.pop(now), Ok(object("b")));
        assert_eq!(queue.pop(now), Err(Some(later)));
        assert_eq!(queue.pop(later), Ok(object("c")));
        assert_eq!(queue.pop(later), Err(None));
    }
}
