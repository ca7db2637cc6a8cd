//! HTTPRoutes compiled into one table in the order of precedence, and the choice of a backend.

use std::cmp::Reverse;
use std::sync::Arc;

use serde_json::Value;

use super::matching::{Match, Request, Specificity, bare_host, covers};

/// A Service that a rule sends requests to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backend {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub service: String,
    /// The Service's port.
    pub port: u16,
}

/// Headers that a filter sets, adds and removes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderChange {
    /// Replaced, or added where missing.
    pub set: Vec<(String, String)>,
    /// Added to what is there.
    pub add: Vec<(String, String)>,
    /// Taken away.
    pub remove: Vec<String>,
}

/// One weighted backend of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Where to.
    pub backend: Backend,
    /// Its weight among the rule's shares.
    pub weight: u32,
    /// Request headers that change for this backend only.
    pub headers: HeaderChange,
}

/// A rule of an HTTPRoute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Namespace and name of the HTTPRoute.
    pub route: (String, String),
    /// The rule's index in the route.
    pub index: usize,
    /// The backends; empty means that every request gets 500.
    pub shares: Vec<Share>,
    /// Request headers that change for all backends.
    pub headers: HeaderChange,
    /// Copies go here, with a percentage.
    pub mirrors: Vec<(Backend, u32)>,
    /// Why the rule answers 500 to everything, where it cannot be followed.
    pub problem: Option<String>,
}

/// Where one request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// To this share of the rule.
    Forward(Share),
    /// No route matches: 404.
    NotFound,
    /// The rule cannot be followed: 500, with the reason.
    Broken(String),
}

/// The answer for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteDecision {
    /// The rule that matched.
    pub rule: Option<Arc<Rule>>,
    /// What happens.
    pub outcome: Outcome,
}

#[derive(Debug, Clone)]
struct Entry {
    hostname: Option<String>,
    matcher: Match,
    rule: Arc<Rule>,
    order: Order,
}

/// Smaller wins: the host, the match, the route's age and name, the rule's and the match's place.
type Order =
    ((Reverse<bool>, Reverse<usize>), Specificity, String, (String, String), (usize, usize));

/// Every match of every route, most specific first.
#[derive(Debug, Clone, Default)]
pub struct Table {
    entries: Vec<Entry>,
    rules: Vec<Arc<Rule>>,
}

impl Table {
    /// Compiles HTTPRoutes. A match that cannot be compiled never matches; `super::status`
    /// reports it on the route.
    #[must_use]
    pub fn new<'a>(routes: impl IntoIterator<Item = &'a Value>) -> Self {
        let (mut entries, mut rules) = (Vec::new(), Vec::new());
        for route in routes {
            let created = text(&route["metadata"]["creationTimestamp"]);
            for (index, spec) in list(&route["spec"]["rules"]).iter().enumerate() {
                let rule = Arc::new(Rule::parse(route, index, spec));
                rules.push(rule.clone());
                let whole = [Value::Null];
                let matches = match list(&spec["matches"]) {
                    [] => &whole,
                    some => some,
                };
                for (place, entry) in matches.iter().enumerate() {
                    let Ok(matcher) = Match::parse(entry) else { continue };
                    for hostname in hostnames(route) {
                        let order = (
                            host_rank(hostname.as_deref()),
                            matcher.specificity(),
                            created.clone(),
                            rule.route.clone(),
                            (index, place),
                        );
                        let (matcher, rule) = (matcher.clone(), rule.clone());
                        entries.push(Entry { hostname, matcher, rule, order });
                    }
                }
            }
        }
        entries.sort_by(|a, b| a.order.cmp(&b.order));
        Self { entries, rules }
    }

    /// The rule that a request falls under.
    #[must_use]
    pub fn find(&self, request: &Request<'_>) -> Option<&Arc<Rule>> {
        let host = bare_host(request.host);
        let entry = self.entries.iter().find(|entry| {
            entry.hostname.as_deref().is_none_or(|pattern| covers(pattern, &host))
                && entry.matcher.matches(request)
        })?;
        Some(&entry.rule)
    }

    /// Every rule of every route, also those whose matches cannot be compiled.
    pub(super) fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// Routes one request. `random` decides among the weights; `exists` says whether a Service has
    /// this port: a share of the requests that goes to one that does not exist gets 500.
    #[must_use]
    pub fn route(
        &self,
        request: &Request<'_>,
        random: u64,
        exists: impl Fn(&Backend) -> bool,
    ) -> RouteDecision {
        RouteDecision::of(self.find(request).cloned(), random, exists)
    }
}

impl RouteDecision {
    /// What happens to a request that falls under `rule`.
    #[must_use]
    pub fn of(rule: Option<Arc<Rule>>, random: u64, exists: impl Fn(&Backend) -> bool) -> Self {
        let Some(rule) = rule else {
            return Self { rule: None, outcome: Outcome::NotFound };
        };
        let outcome = match (&rule.problem, rule.pick(random)) {
            (Some(problem), _) => Outcome::Broken(problem.clone()),
            (None, None) => Outcome::Broken("no backend has a weight above 0".to_owned()),
            (None, Some(share)) if share.backend.namespace != rule.route.0 => {
                Outcome::Broken("backends must be in the route's namespace".to_owned())
            }
            (None, Some(share)) if exists(&share.backend) => Outcome::Forward(share.clone()),
            (None, Some(share)) => {
                let Backend { namespace, service, port } = &share.backend;
                Outcome::Broken(format!("no Service {namespace}/{service} with port {port}"))
            }
        };
        Self { rule: Some(rule), outcome }
    }
}

/// Routes one request through `routes` without keeping the compiled table.
#[must_use]
pub fn route(
    routes: &[Value],
    request: &Request<'_>,
    random: u64,
    exists: impl Fn(&Backend) -> bool,
) -> RouteDecision {
    Table::new(routes).route(request, random, exists)
}

impl Rule {
    /// The share that `random` falls into, by weight; none if no weight is above 0.
    #[must_use]
    pub fn pick(&self, random: u64) -> Option<&Share> {
        let total: u64 = self.shares.iter().map(|s| u64::from(s.weight)).sum();
        let mut left = random.checked_rem(total)?;
        self.shares.iter().find(|share| {
            let weight = u64::from(share.weight);
            let hit = left < weight;
            left = left.saturating_sub(weight);
            hit
        })
    }

    fn parse(route: &Value, index: usize, spec: &Value) -> Self {
        let namespace = namespace_of(route);
        let mut rule = Self {
            route: (namespace.clone(), text(&route["metadata"]["name"])),
            index,
            shares: Vec::new(),
            headers: HeaderChange::default(),
            mirrors: Vec::new(),
            problem: None,
        };
        if let Err(problem) = rule.read(spec, &namespace) {
            rule.problem = Some(format!("spec.rules[{index}]{problem}"));
        }
        rule
    }

    fn read(&mut self, spec: &Value, namespace: &str) -> Result<(), String> {
        for (i, entry) in list(&spec["backendRefs"]).iter().enumerate() {
            let path = format!(".backendRefs[{i}]");
            let mut headers = HeaderChange::default();
            for filter in list(&entry["filters"]) {
                header_filter(filter, &mut headers).map_err(|e| format!("{path}.filters: {e}"))?;
            }
            let weight = entry["weight"].as_u64().unwrap_or(1);
            self.shares.push(Share {
                backend: backend(entry, namespace).map_err(|e| format!("{path}: {e}"))?,
                weight: u32::try_from(weight).unwrap_or(u32::MAX),
                headers,
            });
        }
        for (i, filter) in list(&spec["filters"]).iter().enumerate() {
            let path = format!(".filters[{i}]");
            if filter["type"] == "RequestMirror" {
                let mirror = &filter["requestMirror"];
                let to = backend(&mirror["backendRef"], namespace);
                let percent = mirror["percent"].as_u64().unwrap_or(100).min(100);
                let percent = u32::try_from(percent).unwrap_or(100);
                self.mirrors.push((to.map_err(|e| format!("{path}: {e}"))?, percent));
            } else {
                header_filter(filter, &mut self.headers).map_err(|e| format!("{path}: {e}"))?;
            }
        }
        for (i, entry) in list(&spec["matches"]).iter().enumerate() {
            Match::parse(entry).map_err(|e| format!(".matches[{i}]: {e}"))?;
        }
        Ok(())
    }
}

fn backend(reference: &Value, namespace: &str) -> Result<Backend, String> {
    let kind = reference["kind"].as_str().unwrap_or("Service");
    if kind != "Service" || !text(&reference["group"]).is_empty() {
        return Err(format!("backend kind {kind:?} is not supported; use a Service"));
    }
    let port = reference["port"].as_u64().and_then(|p| u16::try_from(p).ok());
    Ok(Backend {
        namespace: reference["namespace"].as_str().unwrap_or(namespace).to_owned(),
        service: text(&reference["name"]),
        port: port.ok_or("a Service backend needs a port")?,
    })
}

fn header_filter(filter: &Value, headers: &mut HeaderChange) -> Result<(), String> {
    let kind = text(&filter["type"]);
    if kind != "RequestHeaderModifier" {
        return Err(format!("filter {kind:?} is not supported"));
    }
    let modifier = &filter["requestHeaderModifier"];
    let pairs = |entries: &Value| -> Vec<(String, String)> {
        list(entries).iter().map(|h| (text(&h["name"]), text(&h["value"]))).collect()
    };
    headers.set.extend(pairs(&modifier["set"]));
    headers.add.extend(pairs(&modifier["add"]));
    headers.remove.extend(list(&modifier["remove"]).iter().map(text));
    Ok(())
}

/// The route's hostnames in lower case; `None` stands for every host.
fn hostnames(route: &Value) -> Vec<Option<String>> {
    match list(&route["spec"]["hostnames"]) {
        [] => vec![None],
        names => names.iter().map(|n| Some(text(n).to_ascii_lowercase())).collect(),
    }
}

/// Exact hosts before wildcards, longer before shorter, none last.
fn host_rank(hostname: Option<&str>) -> (Reverse<bool>, Reverse<usize>) {
    let exact = hostname.is_some_and(|h| !h.starts_with('*'));
    (Reverse(exact), Reverse(hostname.map_or(0, str::len)))
}

pub(super) fn namespace_of(object: &Value) -> String {
    object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned()
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
