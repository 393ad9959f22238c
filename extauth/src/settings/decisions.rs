//! What is said about decisions.

use clap::Args;
use http::HeaderName;

use crate::decision::Options;

#[derive(Args, Clone, Debug)]
#[expect(missing_docs, reason = "a comment would become a text of --help")]
pub struct Decisions {
    /// Share of the allowed requests whose decision is logged, from 0 to 1.
    #[arg(long, env = "EXTAUTH_DECISION_LOG_SAMPLE_ALLOW", default_value = "0", value_parser = share)]
    pub decision_log_sample_allow: f64,
    /// Share of the denied and redirected requests whose decision is logged, from 0 to 1.
    #[arg(long, env = "EXTAUTH_DECISION_LOG_SAMPLE_DENY", default_value = "1", value_parser = share)]
    pub decision_log_sample_deny: f64,
    /// Header of the answer in which the client gets the decision's id; none by default.
    #[arg(long, env = "EXTAUTH_DECISION_ID_HEADER", value_parser = header)]
    pub decision_id_header: Option<HeaderName>,
}

impl Decisions {
    /// What is logged.
    pub fn options(&self) -> Options {
        Options {
            sample_allow: self.decision_log_sample_allow,
            sample_deny: self.decision_log_sample_deny,
            header: self.decision_id_header.clone(),
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "say a number from 0 to 1".to_owned())
}

fn header(text: &str) -> Result<HeaderName, String> {
    crate::header::name(text).map_err(|error| error.to_string())
}
