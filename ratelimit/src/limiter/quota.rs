//! One limit on one descriptor: what it costs, what the answer says about it, what the metrics say.

use ::metrics::Counter;
use envoy_types::pb::{
    envoy::{
        extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry},
        service::ratelimit::v3::{
            RateLimitRequest,
            rate_limit_response::{Code, DescriptorStatus, RateLimit},
        },
    },
    google::protobuf::Duration,
};

use super::Options;
use crate::{
    config::{PerUnit, Rule},
    key::Key,
    metrics,
    store::{Charge, Denies, Outcome, Undo},
};

/// A limit that applies to a descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quota<'c> {
    pub(super) limit: PerUnit,
    /// Of the descriptor.
    pub(super) entries: &'c [Entry],
    /// `None` when the descriptor brought its own limit.
    pub(super) rule: Option<&'c Rule>,
    pub(super) metrics: &'c metrics::Rule,
}

impl Quota<'_> {
    /// `None` when nothing can replace it.
    pub(super) fn name(&self) -> Option<&str> {
        self.rule.map(|rule| rule.name.as_str()).filter(|name| !name.is_empty())
    }

    /// What the descriptor costs.
    pub(super) fn charge(
        &self,
        request: &RateLimitRequest,
        descriptor: &RateLimitDescriptor,
        options: &Options,
    ) -> Charge {
        let (window, algorithm) = (self.limit.window(), self.limit.algorithm);
        let shared = self.rule.map_or(&[][..], |rule| &rule.shared);
        // A limit is 32 bits wide, so more hits than that at once deny just the same.
        let hits = match &descriptor.hits_addend {
            Some(hits) => u32::try_from(hits.value).unwrap_or(u32::MAX),
            None => request.hits_addend.max(1),
        };
        let hits = if descriptor.is_negative_hits { -i64::from(hits) } else { i64::from(hits) };
        Charge {
            key: Key::keyed(&options.secret, &request.domain, window, algorithm, self.entries, shared),
            hits,
            limit: self.limit.burst,
            denies: match self.rule {
                Some(rule) if rule.shadow_mode => Denies::Nothing,
                Some(rule) if rule.quota_mode => Denies::Together,
                _ if options.quota_mode => Denies::Together,
                _ => Denies::Alone,
            },
            undo: match descriptor.hits_addend {
                _ if !options.all_or_nothing || options.shadow_mode || hits < 0 => Undo::Never,
                Some(_) => Undo::DeniedByOthers,
                None => Undo::Denied,
            },
            algorithm,
            window,
            on_store_loss: self.rule.and_then(|rule| rule.on_store_loss).unwrap_or(options.on_store_loss),
            leases: self.rule.is_none_or(|rule| rule.leases),
        }
    }

    fn is_over(&self, outcome: Outcome) -> bool {
        outcome.count > u64::from(self.limit.burst)
    }

    pub(super) fn status(&self, outcome: Outcome) -> DescriptorStatus {
        let shadow = self.rule.is_some_and(|rule| rule.shadow_mode);
        let code = if self.is_over(outcome) && !shadow { Code::OverLimit } else { Code::Ok };
        let remaining = u64::from(self.limit.burst).saturating_sub(outcome.count);
        DescriptorStatus {
            code: code.into(),
            current_limit: Some(RateLimit {
                name: self.rule.map(|rule| rule.name.clone()).unwrap_or_default(),
                requests_per_unit: self.limit.requests_per_unit,
                unit: self.limit.unit_number(),
            }),
            limit_remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            duration_until_reset: Some(Duration { seconds: outcome.seconds_left.into(), nanos: 0 }),
            quota: None,
        }
    }

    /// Splits a charge's hits into those within, near and over the limit, as upstream's statistics do.
    pub(super) fn count(&self, charge: &Charge, outcome: Outcome, options: &Options) {
        let by_value = self.rule.and_then(|rule| rule.by_value.as_deref());
        let by_value = by_value.map(|counters| counters.rule(self.entries, options.max_value_series));
        let metrics = by_value.as_ref().unwrap_or(self.metrics);
        let hits = u64::try_from(charge.hits).unwrap_or_default();
        let (limit, after) = (u64::from(self.limit.burst), outcome.count);
        if outcome.near {
            metrics.over_limit_near.increment(hits);
        }
        if !outcome.charged || outcome.near {
            metrics.total_hits.increment(hits);
            add(&metrics.over_limit, if after > limit { hits } else { 0 });
            return;
        }
        let before = after.saturating_sub(hits);
        let near = near_threshold(self.limit.burst, options.near_limit_ratio);
        metrics.total_hits.increment(hits);
        if after <= limit {
            metrics.within_limit.increment(hits);
            add(&metrics.near_limit, hits.min(after.saturating_sub(near)));
            return;
        }
        let over = hits.min(after - limit);
        metrics.over_limit.increment(over);
        add(&metrics.within_limit, hits - over);
        add(&metrics.near_limit, limit.saturating_sub(near.max(before)));
        if self.rule.is_some_and(|rule| rule.shadow_mode) {
            metrics.shadow_mode.increment(hits);
        }
    }
}

/// Nothing is added without a write to memory that all cores share.
fn add(counter: &Counter, hits: u64) {
    if hits > 0 {
        counter.increment(hits);
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "upstream rounds through a 32-bit float as well; it only moves a metric's threshold, and the cast saturates"
)]
fn near_threshold(limit: u32, ratio: f32) -> u64 {
    (limit as f32 * ratio).floor() as u64
}
