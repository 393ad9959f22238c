//! Why the API server did not do what it was asked to.

use std::error::Error;

/// An error and its causes in one line, with the API server's own words where it said something.
pub(crate) fn reason(error: &(dyn Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let boxed = || error.downcast_ref::<Box<kube::Error>>().map(AsRef::as_ref);
        if let Some(kube::Error::Api(status)) = error.downcast_ref().or_else(boxed) {
            parts.push(format!("{} ({} {})", status.message, status.code, status.reason));
            break;
        }
        let text = error.to_string();
        next = error.source();
        // Some errors repeat their cause, which is told once.
        let cause = next.map(ToString::to_string).unwrap_or_default();
        let text = text.strip_suffix(&cause).map_or(text.as_str(), |text| text.trim_end_matches([':', ' ']));
        if !text.is_empty() {
            parts.push(text.to_owned());
        }
    }
    parts.join(": ")
}

/// The last failure of something that is tried again and again.
#[derive(Debug, Default)]
pub(crate) struct Failure(String);

impl Failure {
    /// Whether this is news.
    pub(crate) fn is_new(&mut self, reason: &str) -> bool {
        let is_new = self.0 != reason;
        reason.clone_into(&mut self.0);
        is_new
    }

    /// It works; whether that is news.
    pub(crate) fn is_over(&mut self) -> bool {
        !std::mem::take(&mut self.0).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use kube::{core::Status, runtime::watcher};

    use super::*;

    #[test]
    fn the_api_servers_words_are_enough() {
        let status =
            Status { message: "no such thing".into(), code: 404, reason: "NotFound".into(), ..Status::default() };
        let error = watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status.clone())));
        assert_eq!(reason(&error), "failed to perform initial object list: no such thing (404 NotFound)");
        let boxed: Box<kube::Error> = Box::new(kube::Error::Api(Box::new(status)));
        assert_eq!(reason(&boxed), "no such thing (404 NotFound)");
    }

    #[test]
    fn a_failure_is_told_once() {
        let mut failure = Failure::default();
        assert!(failure.is_new("a"));
        assert!(!failure.is_new("a"));
        assert!(failure.is_over());
        assert!(!failure.is_over());
        assert!(failure.is_new("a"));
    }
}
