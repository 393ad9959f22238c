//! The names that dashboards of envoyproxy/ratelimit know. Label values come from the configuration, and every handle is
//! resolved before the first request; only [`ByValue`] takes values of requests, up to a bound.

use std::{io, ops::Deref, sync::OnceLock};

use ::metrics::{Counter, Gauge, Histogram, Label, Recorder, counter, gauge, histogram};
use metrics_util::layers::FanoutBuilder;
use proto::metrics::Handle;

pub(crate) use self::by_value::ByValue;
use self::prometheus::Named;
pub use self::{
    mapper::{Error as MapperError, Mapper},
    mogrifier::{Error as MogrifierError, Mogrifiers},
    statsd::{Options as StatsdOptions, Protocol as StatsdProtocol, Sender},
};
use crate::store::{Charge, OnStoreLoss};

mod by_value;
mod dotted;
mod mapper;
mod mogrifier;
mod prometheus;
mod statsd;

/// Who is told what is measured.
#[derive(Debug)]
pub struct Options {
    /// Renames what Prometheus is shown; `None` gives the names of upstream's own mapping.
    pub mapper: Option<Mapper>,
    /// Response times are shown to Prometheus in milliseconds, not in seconds.
    pub milliseconds: bool,
    /// Labels of every metric.
    pub tags: Vec<(String, String)>,
    /// Another to tell.
    pub statsd: Option<StatsdOptions>,
}

/// Makes the recorder of this process. What it has for Prometheus is behind the handle; statsd is sent to until the sender is dropped.
pub fn install(options: Options) -> io::Result<(Handle, Option<Sender>)> {
    let Options { mapper, milliseconds, tags, statsd } = options;
    let (statsd, sender) = statsd.map(statsd::start).transpose()?.unzip();
    let handle = proto::metrics::install_with(&tags, |inner| {
        let named = Named { inner, mapper, unit: if milliseconds { 1000.0 } else { 1.0 } };
        match statsd {
            None => Box::new(named) as Box<dyn Recorder + Sync>,
            Some(statsd) => Box::new(FanoutBuilder::default().add_recorder(named).add_recorder(statsd).build()),
        }
    });
    Ok((handle, sender))
}

/// Counters of one rule. They are made when the rule is used first, since most rules of a large configuration never are.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// The domain and the levels of the descriptor.
    levels: Vec<String>,
    counters: OnceLock<RuleCounters>,
}

/// What [`Rule`] leads to.
#[derive(Clone, Debug)]
pub(crate) struct RuleCounters {
    pub(crate) total_hits: Counter,
    pub(crate) over_limit: Counter,
    /// Of those, without asking the store.
    pub(crate) over_limit_near: Counter,
    pub(crate) near_limit: Counter,
    pub(crate) within_limit: Counter,
    pub(crate) shadow_mode: Counter,
}

impl Rule {
    /// Labels are the domain and the levels of the descriptor; Prometheus is shown the first two, as upstream has it.
    pub(crate) fn new(domain: &str, levels: &[String]) -> Self {
        let levels = [domain.to_owned()].into_iter().chain(levels.iter().cloned()).collect();
        Self { levels, counters: OnceLock::new() }
    }
}

impl Deref for Rule {
    type Target = RuleCounters;

    fn deref(&self) -> &RuleCounters {
        self.counters.get_or_init(|| RuleCounters::new(&self.levels))
    }
}

impl RuleCounters {
    fn new(levels: &[String]) -> Self {
        let name = |at| if at == 0 { "domain".to_owned() } else { format!("key{at}") };
        let labels: Vec<_> = (0..).zip(levels).map(|(at, level)| Label::new(name(at), level.clone())).collect();
        Self {
            total_hits: counter!("ratelimit_service_rate_limit_total_hits", labels.clone()),
            over_limit: counter!("ratelimit_service_rate_limit_over_limit", labels.clone()),
            over_limit_near: counter!("ratelimit_service_rate_limit_over_limit_with_local_cache", labels.clone()),
            near_limit: counter!("ratelimit_service_rate_limit_near_limit", labels.clone()),
            within_limit: counter!("ratelimit_service_rate_limit_within_limit", labels.clone()),
            shadow_mode: counter!("ratelimit_service_rate_limit_shadow_mode", labels),
        }
    }
}

/// Counters of the service as a whole.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) total_requests: Counter,
    pub(crate) response_time: Histogram,
    pub(crate) redis_error: Counter,
    pub(crate) request_error: Counter,
    pub(crate) global_shadow_mode: Counter,
    pub(crate) domain_not_found: Counter,
}

impl Service {
    pub(crate) fn new() -> Self {
        let error = |kind: &'static str| counter!("ratelimit_service_should_rate_limit_error", "err_type" => kind);
        Self {
            total_requests: counter!("ratelimit_service_total_requests", "grpc_method" => "ShouldRateLimit"),
            response_time: histogram!("ratelimit_service_response_time_seconds", "grpc_method" => "ShouldRateLimit"),
            redis_error: error("redis_error"),
            request_error: error("service_error"),
            global_shadow_mode: counter!("ratelimit_service_global_shadow_mode"),
            domain_not_found: counter!("ratelimit_service_rate_limit_domain_not_found"),
        }
    }
}

/// Counters of configuration loads.
#[derive(Clone, Debug)]
pub(crate) struct ConfigLoad {
    pub(crate) success: Counter,
    pub(crate) error: Counter,
}

impl ConfigLoad {
    pub(crate) fn new() -> Self {
        Self {
            success: counter!("ratelimit_service_config_load_success"),
            error: counter!("ratelimit_service_config_load_error"),
        }
    }
}

/// What happens while the store does not answer.
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    /// Breakers that are open, of one for each core and server that counts: zero while the store is up.
    pub(crate) open: Gauge,
    /// Requests that the store failed or did not answer in time.
    pub(crate) failures: Counter,
    by_mode: [(OnStoreLoss, Counter); 5],
}

impl Loss {
    pub(crate) fn new() -> Self {
        let open = gauge!("ratelimit_store_breakers_open");
        open.increment(0);
        Self {
            open,
            failures: counter!("ratelimit_store_failures"),
            by_mode: OnStoreLoss::ALL
                .map(|mode| (mode, counter!("ratelimit_store_lost_charges", "on_store_loss" => mode.name()))),
        }
    }

    /// Counts charges that are decided without the store.
    pub(crate) fn decided(&self, charges: &[Charge]) {
        for (mode, counter) in &self.by_mode {
            let charges = charges.iter().filter(|charge| charge.on_store_loss == *mode).count();
            if charges > 0 {
                counter.increment(charges as u64);
            }
        }
    }
}
