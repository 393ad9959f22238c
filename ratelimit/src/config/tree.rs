//! The descriptor tree of one domain and how a request's descriptor is found in it.

use std::{fmt, sync::LazyLock};

use ahash::HashMap;
use envoy_types::pb::{
    envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry, google::protobuf::Struct,
};
use serde_saphyr::{Location, Spanned};

use super::{
    document::{Descriptor, Document, RateLimit},
    limit::{self, Limit, PerUnit},
    wildcard::Wildcard,
};
use crate::{
    metrics,
    overrides::{Overridden, Step as OverrideStep},
    store::OnStoreLoss,
};

pub(crate) use self::walk::{Candidate, End, Kind, Reason, Walk};

mod unordered;
mod walk;

/// One domain's rules.
#[derive(Clone, Debug)]
pub struct Domain {
    name: String,
    roots: Level,
    /// Counts requests that bring their own limit.
    pub(crate) overrides: metrics::Rule,
}

/// What one descriptor of the tree says about requests that end there.
#[derive(Clone, Debug)]
pub struct Rule {
    /// `<domain>.<level>.<level>…`, each level being `key` or `key_value`.
    pub full_key: String,
    /// How much is allowed, but for values that an override names, see [`Rule::limit_of`].
    pub limit: Limit,
    /// What lies over the limit that was written, if anything does.
    pub(crate) overridden: Option<Box<Overridden>>,
    /// Returned to Envoy in `current_limit.name`; empty for none.
    pub name: String,
    /// Who decides while the store cannot; `None` leaves it to the settings.
    pub on_store_loss: Option<OnStoreLoss>,
    /// Its hits may be leased, where `LEASES` is set.
    pub leases: bool,
    /// Names of rules that do not apply in a request that this rule matches.
    pub replaces: Vec<String>,
    /// Counts and reports, but never denies.
    pub shadow_mode: bool,
    /// Denies only when every quota rule of the request is over its limit.
    pub quota_mode: bool,
    /// For each level, the wildcard text that stands for the value in the counter's key (`share_threshold`).
    pub(crate) shared: Vec<Option<String>>,
    /// Told to Envoy about requests that the rule lets pass.
    pub(crate) metadata: Option<Box<Struct>>,
    pub(crate) metrics: metrics::Rule,
    /// Counts instead of `metrics` where the rule asks for the values of requests.
    pub(crate) by_value: Option<Box<metrics::ByValue>>,
}

/// The descriptors below one node.
#[derive(Clone, Debug, Default)]
struct Level {
    nodes: Vec<Node>,
    /// Index in `nodes` by `key` or `key_value`.
    by_text: HashMap<String, usize>,
    /// In file order.
    wildcards: Vec<(Wildcard, usize)>,
}

/// Small, since a request finds its own cold among thousands: what few have is elsewhere.
#[derive(Clone, Debug)]
struct Node {
    rule: Option<Rule>,
    children: Option<Box<Level>>,
}

/// What is below a leaf.
static NOTHING: LazyLock<Level> = LazyLock::new(Level::default);

/// What is wrong with a document, and where.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) at: Location,
    pub(super) message: String,
}

impl Domain {
    /// What it returns is usable only if no problem was found.
    pub(super) fn build(document: Document, problems: &mut Vec<Problem>) -> Self {
        let name = document.domain.value;
        if name.is_empty() {
            problems.push(Problem { at: document.domain.referenced, message: "domain must not be empty".into() });
        }
        let roots = Level::build(document.descriptors, &Path { domain: &name, steps: vec![] }, problems);
        Self { roots, overrides: metrics::Rule::new(&name, &[]), name }
    }

    /// The domain's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The rule for a request's entries. At each level an exact value wins over the first wildcard, and that over the
    /// bare key; there is no way back from a choice. Only a rule at the depth of the last entry applies.
    pub fn rule(&self, entries: &[Entry]) -> Option<&Rule> {
        let mut node: Option<&Node> = None;
        let mut text = String::with_capacity(64);
        for entry in entries {
            text.clear();
            text.extend([&entry.key, "_", &entry.value]);
            node = Some(node.map_or(&self.roots, Node::children).node(&text, &entry.key)?);
        }
        node.and_then(|node| node.rule.as_ref())
    }

    /// The rule that is written at the end of a path, or why requests that the path describes never come to one.
    pub(crate) fn rule_mut(&mut self, path: &[OverrideStep]) -> Result<&mut Rule, &'static str> {
        const UNKNOWN: &str = "the domain has no such descriptor";
        let mut level = &mut self.roots;
        let mut rule = None;
        for step in path {
            let index = *level.by_text.get(&step.text()).ok_or(UNKNOWN)?;
            if step
                .matches
                .as_ref()
                .is_some_and(|value| level.index(&format!("{}_{value}", step.key), &step.key) != Some(index))
            {
                return Err("requests with this value come to another descriptor");
            }
            let node = level.nodes.get_mut(index).ok_or(UNKNOWN)?;
            (level, rule) = (node.children.get_or_insert_default(), node.rule.as_mut());
        }
        rule.ok_or("the descriptor has no rate_limit")
    }

    /// `key` or `key_value` of each descriptor of the first level, in file order.
    pub(super) fn root_texts(&self) -> Vec<String> {
        let mut texts: Vec<_> = self.roots.by_text.iter().collect();
        texts.sort_by_key(|(_, index)| **index);
        texts.into_iter().map(|(text, _)| text.clone()).collect()
    }

    /// Puts another part of the domain behind this one. They must have no descriptor of the first level in common.
    pub(super) fn append(&mut self, other: Self) {
        let Level { nodes, by_text, wildcards } = other.roots;
        let offset = self.roots.nodes.len();
        self.roots.nodes.extend(nodes);
        self.roots.by_text.extend(by_text.into_iter().map(|(text, index)| (text, offset + index)));
        self.roots.wildcards.extend(wildcards.into_iter().map(|(wildcard, index)| (wildcard, offset + index)));
    }

    /// All rules in file order.
    pub fn rules(&self) -> Vec<&Rule> {
        let mut rules = Vec::new();
        self.roots.visit(&mut rules);
        rules
    }
}

impl Level {
    fn build(descriptors: Vec<Spanned<Descriptor>>, path: &Path<'_>, problems: &mut Vec<Problem>) -> Self {
        let mut level = Self::default();
        level.nodes.reserve_exact(descriptors.len());
        level.by_text.reserve(descriptors.len());
        for Spanned { value: descriptor, referenced: at, .. } in descriptors {
            let text = descriptor.composite();
            let path = path.below(&descriptor, &text);
            let mut problem = |message: &str| problems.push(path.problem(at, message));
            if descriptor.key.is_empty() {
                problem("descriptor has an empty key");
            }
            let wildcard = Wildcard::new(&text);
            if descriptor.share_threshold && wildcard.is_none() {
                problem("share_threshold needs a value with *");
            }
            let index = level.nodes.len();
            if level.by_text.insert(text, index).is_some() {
                problem("duplicate descriptor; a key and its value, joined by _, must be unique in a list");
            }
            level.wildcards.extend(wildcard.map(|wildcard| (wildcard, index)));
            let Descriptor { shadow_mode, quota_mode, detailed_metric, metadata, .. } = descriptor;
            let rule = descriptor.rate_limit.map(|limit| Rule::build(limit, detailed_metric, &path)).transpose();
            let rule = rule.unwrap_or_else(|problem| {
                problems.push(problem);
                None
            });
            let metadata = metadata.map(Box::new);
            let rule = rule.map(|rule| Rule { shadow_mode, quota_mode, metadata, ..rule });
            let below = descriptor.descriptors;
            let children = (!below.is_empty()).then(|| Box::new(Self::build(below, &path, problems)));
            level.nodes.push(Node { rule, children });
        }
        level
    }

    fn node(&self, text: &str, key: &str) -> Option<&Node> {
        self.nodes.get(self.index(text, key)?)
    }

    /// Where an entry leads; `text` is its key and value, joined by `_`.
    fn index(&self, text: &str, key: &str) -> Option<usize> {
        let wildcard = || self.wildcards.iter().find(|(wildcard, _)| wildcard.matches(text)).map(|(_, index)| index);
        self.by_text.get(text).or_else(wildcard).or_else(|| self.by_text.get(key)).copied()
    }

    fn visit<'r>(&'r self, rules: &mut Vec<&'r Rule>) {
        for node in &self.nodes {
            rules.extend(&node.rule);
            node.children().visit(rules);
        }
    }
}

impl Node {
    fn children(&self) -> &Level {
        self.children.as_deref().unwrap_or(&NOTHING)
    }
}

impl Rule {
    /// What a request's entries that come to this rule may have.
    pub fn limit_of(&self, entries: &[Entry]) -> Limit {
        let of_value = self.overridden.as_ref().and_then(|overridden| overridden.of_value(entries));
        of_value.map_or(self.limit, |(limit, _)| limit)
    }

    fn build(limit: Spanned<RateLimit>, detailed_metric: bool, path: &Path<'_>) -> Result<Self, Problem> {
        let problem = |at, message: &str| Err(path.problem(at, message));
        let allowed = limit::build(&limit).map_err(|(at, message)| path.problem(at, message))?;
        let RateLimit { name, replaces, on_store_loss, leases, .. } = limit.value;
        for replace in &replaces {
            if replace.value.name.is_empty() {
                return problem(replace.referenced, "replaces has an entry without a name");
            }
            if replace.value.name == name {
                return problem(replace.referenced, "replaces names its own rate_limit");
            }
        }
        let steps = &path.steps;
        let texts: Vec<_> = steps.iter().map(|step| step.text.clone()).collect();
        let by_value: Vec<_> =
            steps.iter().map(|step| step.open && (detailed_metric || step.value_to_metric)).collect();
        let shared = steps.iter().any(|step| step.share_threshold);
        let shared_text = |step: &Step| step.share_threshold.then(|| step.text.clone());
        Ok(Self {
            full_key: path.full_key(),
            limit: allowed,
            overridden: None,
            on_store_loss: on_store_loss.map(|loss| loss.value),
            leases: leases.is_none_or(|leases| leases.value),
            name,
            replaces: replaces.into_iter().map(|replace| replace.value.name).collect(),
            shadow_mode: false,
            quota_mode: false,
            shared: if shared { steps.iter().map(shared_text).collect() } else { vec![] },
            metadata: None,
            metrics: metrics::Rule::new(path.domain, &texts),
            by_value: metrics::ByValue::new(path.domain, &texts, &by_value).map(Box::new),
        })
    }
}

/// As upstream's `/rlconfig` prints it, and behind it what upstream does not know.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, requests) = match self.limit {
            Limit::Unlimited => ("UNKNOWN".to_owned(), 0),
            Limit::PerUnit(PerUnit { unit, requests_per_unit, .. }) => (unit.to_string(), requests_per_unit),
        };
        let Self { full_key, shadow_mode, quota_mode, .. } = self;
        write!(f, "{full_key}: unit={unit} requests_per_unit={requests}, ")?;
        write!(f, "shadow_mode: {shadow_mode}, quota_mode: {quota_mode}")?;
        if let Limit::PerUnit(limit) = self.limit {
            limit.write_extras(f)?;
        }
        if let Some(loss) = self.on_store_loss {
            write!(f, ", on_store_loss: {loss}")?;
        }
        if self.leases { Ok(()) } else { f.write_str(", leases: false") }
    }
}

/// Where in the tree a descriptor stands.
struct Path<'p> {
    domain: &'p str,
    steps: Vec<Step>,
}

/// One level of a [`Path`].
#[derive(Clone)]
struct Step {
    text: String,
    /// Requests with different values come here.
    open: bool,
    value_to_metric: bool,
    share_threshold: bool,
}

impl Path<'_> {
    fn below(&self, descriptor: &Descriptor, text: &str) -> Self {
        let step = Step {
            text: text.to_owned(),
            open: descriptor.value.is_empty() || text.contains('*'),
            value_to_metric: descriptor.value_to_metric,
            share_threshold: descriptor.share_threshold,
        };
        Self { domain: self.domain, steps: self.steps.iter().cloned().chain([step]).collect() }
    }

    fn full_key(&self) -> String {
        self.steps.iter().fold(self.domain.to_owned(), |key, step| key + "." + &step.text)
    }

    fn problem(&self, at: Location, message: &str) -> Problem {
        Problem { at, message: format!("{}: {message}", self.full_key()) }
    }
}
