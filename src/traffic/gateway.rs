//! HTTPRoute and GRPCRoute: split, observe, restore.

use serde_json::{Value, json};

use super::filters::{mirror, with_headers};
use super::matches::combined;
use super::notes::{RouteNotes, RuleNote, rule_hash};
use super::refs::{Arms, backends, filters, is_grpc, list, rules, set, title, unset, weight};
use super::weights::{self, CanaryShare, canary_ref};
use super::{RouteError, ServicePair, Split, limits};

/// What a route says, compared with what it should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Exactly this split.
    Exact,
    /// Nothing of ours is in it: never written, or the user's manifest was applied again.
    Untouched,
    /// Something else: another split, or an edit of somebody's that has to be taken in.
    Contended {
        /// The first place that differs.
        at: String,
    },
}

/// Which traffic a route sends to the canary now, whoever wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The largest percentage of the service's share in any rule, rounded up. None: no rule is
    /// split.
    pub weight: Option<u8>,
    /// The number of rules for matching requests.
    pub match_rules: usize,
    /// True when requests are copied to it.
    pub mirrored: bool,
}

impl Reach {
    /// True when no request can reach the canary.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.weight.is_none_or(|w| w == 0) && self.match_rules == 0 && !self.mirrored
    }
}

/// The whole route with this split, whatever split is in it now, and the notes to store *before* it
/// is written. Asking twice changes nothing.
///
/// With `rule_name` only the rule of that name is split, else every rule that names the service.
/// Ask with every step's split when a Rollout is adopted, so that an impossible one is found then.
///
/// # Errors
/// The route does not name the service, or the split cannot be written exactly.
pub fn apply_route(
    route: &Value,
    pair: &ServicePair,
    rule_name: Option<&str>,
    split: &Split,
    notes: Option<&RouteNotes>,
) -> Result<(Value, RouteNotes), RouteError> {
    let mut edited = restore_route(route, pair, notes);
    let arms = Arms::of(route, pair);
    check_rules(&edited, &arms, pair, rule_name)?;
    check_percentages(split)?;
    let notes = RouteNotes::of(&edited, &arms);
    if split.is_stable() {
        return Ok((edited, notes));
    }
    let clean = rules(&edited);
    let edit = Edit { arms: &arms, pair, split, rules: clean, grpc: is_grpc(route) };
    let mut out = Vec::new();
    let mut match_rules = 0_usize;
    for (i, rule) in clean.iter().enumerate() {
        if !in_scope(rule, &arms, rule_name) {
            out.push(rule.clone());
            continue;
        }
        let ours = edit.match_rules(rule, i)?;
        match_rules += ours.len();
        out.extend(ours);
        out.push(edit.split_rule(rule, i)?);
    }
    if match_rules == 0 && !split.matches.is_empty() {
        return Err(RouteError::NobodyMatches {
            route: title(route),
            service: pair.stable.clone(),
        });
    }
    set_rules(&mut edited, out);
    limits::check(&edited)?;
    Ok((edited, notes))
}

/// The route without anything of ours and with the user's weights, the user's edits kept. Never
/// fails: what the notes do not explain stays as it stands, with the canary's part given back.
#[must_use]
pub fn restore_route(route: &Value, pair: &ServicePair, notes: Option<&RouteNotes>) -> Value {
    let arms = Arms::of(route, pair);
    let users: Vec<&Value> = rules(route).iter().filter(|rule| !arms.is_ours(rule)).collect();
    let found = find_notes(&users, &arms, notes);
    let clean =
        users.iter().zip(found).map(|(rule, note)| restore_rule(rule, &arms, note)).collect();
    let mut out = route.clone();
    if route.pointer("/spec/rules").is_some_and(Value::is_array) {
        set_rules(&mut out, clean);
    }
    out
}

/// Whether the route says exactly this split. Ask with the split that was written last: then
/// `Untouched` and `Contended` mean that somebody else wrote since.
///
/// # Errors
/// As [`apply_route`].
pub fn observed_split(
    route: &Value,
    pair: &ServicePair,
    rule_name: Option<&str>,
    split: &Split,
    notes: Option<&RouteNotes>,
) -> Result<Observed, RouteError> {
    let (wanted, _) = apply_route(route, pair, rule_name, split, notes)?;
    let (is, should) = (rules(route), rules(&wanted));
    if is == should {
        return Ok(Observed::Exact);
    }
    if reach(route, pair) == Reach::default() {
        return Ok(Observed::Untouched);
    }
    let same = is.iter().zip(should).take_while(|(a, b)| a == b).count();
    Ok(Observed::Contended { at: format!("spec.rules[{same}]") })
}

/// Which traffic the route sends to the canary as it stands.
#[must_use]
pub fn reach(route: &Value, pair: &ServicePair) -> Reach {
    let arms = Arms::of(route, pair);
    let mut out = Reach::default();
    for rule in rules(route) {
        if arms.is_ours(rule) {
            out.match_rules += 1;
        } else {
            out.weight = out.weight.max(weights::percent(backends(rule), &arms));
        }
        out.mirrored |= filters(rule).iter().any(|f| arms.is_our_mirror(f));
    }
    out
}

/// Whether a route can be used, asked before anything of ours is in it.
///
/// # Errors
/// No rule (or not the named one) sends to the service, or one sends to the canary's name already.
pub fn check_route(
    route: &Value,
    pair: &ServicePair,
    rule_name: Option<&str>,
) -> Result<(), RouteError> {
    let arms = Arms::of(route, pair);
    check_rules(route, &arms, pair, rule_name)?;
    for (i, rule) in rules(route).iter().enumerate() {
        if arms.is_edited(rule) {
            return Err(RouteError::CanaryNamed {
                route: title(route),
                path: format!("spec.rules[{i}]"),
                service: pair.canary.clone(),
            });
        }
    }
    Ok(())
}

/// The other release, told by its canary Service, that splits a rule which sends to both Services. Two cannot
/// split one rule: each would take the other's weights and rules for its user's.
pub fn rival<'c>(
    route: &Value,
    pair: &ServicePair,
    rule_name: Option<&str>,
    canaries: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let arms = Arms::of(route, pair);
    let common = || rules(route).iter().filter(|rule| in_scope(rule, &arms, rule_name));
    canaries.into_iter().find(|canary| {
        let Some(service) = canary.strip_suffix("-canary") else { return false };
        let theirs = ServicePair::of(service);
        let theirs = Arms::of(route, &theirs);
        let matched = || rules(route).iter().any(|rule| theirs.is_ours(rule));
        common().any(|rule| theirs.is_edited(rule) || (theirs.has_stable(rule) && matched()))
    })
}

/// One split of one route.
struct Edit<'a> {
    arms: &'a Arms<'a>,
    pair: &'a ServicePair,
    split: &'a Split,
    rules: &'a [Value],
    grpc: bool,
}

impl Edit<'_> {
    /// The rules for matching requests that go before the user's: one, or one for each match where
    /// the API allows a rule no more. None when no such request can reach the user's rule, or the
    /// rule gives the service nothing.
    fn match_rules(&self, rule: &Value, index: usize) -> Result<Vec<Value>, RouteError> {
        let stable = backends(rule).iter().filter(|b| self.arms.is_stable(b) && weight(b) > 0);
        let canary: Vec<Value> = stable.map(|b| canary_ref(b, &self.pair.canary, None)).collect();
        if self.split.matches.is_empty() || canary.is_empty() {
            return Ok(Vec::new());
        }
        let matches = combined(self.rules, index, &self.split.matches, self.grpc)?;
        let of_matches = |matches: Vec<Value>| {
            let mut ours = rule.clone();
            // Names are unique in a route, and many CRDs have none: ours is told by its backends.
            unset(&mut ours, "name");
            set(&mut ours, "matches", Value::Array(matches));
            set(&mut ours, "backendRefs", Value::Array(canary.clone()));
            if let Some(headers) = &self.split.headers {
                set(&mut ours, "filters", Value::Array(with_headers(filters(rule), headers)));
            }
            ours
        };
        if !rewrites_prefix(rule) {
            let one = (!matches.is_empty()).then(|| of_matches(matches));
            return Ok(one.into_iter().collect());
        }
        let own = rule.pointer("/matches/0/path/value");
        if let Some(narrow) = matches.iter().find(|m| m.pointer("/path/value") != own) {
            let wanted = narrow.pointer("/path/value").unwrap_or(&Value::Null).to_string();
            let path = format!("spec.rules[{index}]");
            return Err(RouteError::PrefixRewritten { path, wanted });
        }
        Ok(matches.into_iter().map(|one| of_matches(vec![one])).collect())
    }

    fn split_rule(&self, rule: &Value, index: usize) -> Result<Value, RouteError> {
        let mut out = rule.clone();
        let Split { weight, matches: _, headers, mirror: copied } = self.split;
        let (service, headers) = (self.pair.canary.as_str(), headers.as_ref());
        if let Some(percent) = *weight {
            let share = CanaryShare { service, percent, headers };
            let path = format!("spec.rules[{index}]");
            let split = weights::split(backends(rule), self.arms, &share, &path)?;
            set(&mut out, "backendRefs", Value::Array(split));
        }
        let stable = backends(rule).iter().find(|b| self.arms.is_stable(b));
        if let (Some(percent @ 1..), Some(stable)) = (*copied, stable) {
            let mut all = filters(rule).to_vec();
            all.push(mirror(&canary_ref(stable, service, None), percent));
            set(&mut out, "filters", Value::Array(all));
        }
        Ok(out)
    }
}

fn restore_rule(rule: &Value, arms: &Arms, note: Option<&RuleNote>) -> Value {
    let mut out = rule.clone();
    if backends(rule).iter().any(|b| arms.is_canary(b)) {
        let merged = weights::merge(backends(rule), arms, note);
        set(&mut out, "backendRefs", Value::Array(merged));
    }
    if filters(rule).iter().any(|f| arms.is_our_mirror(f)) {
        let kept: Vec<Value> =
            filters(rule).iter().filter(|f| !arms.is_our_mirror(f)).cloned().collect();
        match kept.is_empty() && !note.is_some_and(|n| n.empty_filters) {
            true => unset(&mut out, "filters"),
            false => set(&mut out, "filters", Value::Array(kept)),
        }
    }
    out
}

/// The note of each rule: by name and matches; for a rule of ours whose matches were edited, one
/// that explains its weights, first one that no other rule has claimed.
fn find_notes<'n>(
    users: &[&Value],
    arms: &Arms,
    notes: Option<&'n RouteNotes>,
) -> Vec<Option<&'n RuleNote>> {
    let notes = notes.map_or(&[][..], |n| n.rules.as_slice());
    let mut taken = vec![false; notes.len()];
    let mut found: Vec<Option<&RuleNote>> = Vec::with_capacity(users.len());
    for rule in users {
        let hash = rule_hash(rule);
        let own = notes.iter().zip(&mut taken).find(|(n, taken)| !**taken && n.rule == hash);
        found.push(own.map(|(note, taken)| {
            *taken = true;
            note
        }));
    }
    for (rule, slot) in users.iter().zip(&mut found) {
        if slot.is_some() || !arms.is_edited(rule) {
            continue;
        }
        let explaining = || {
            let all = notes.iter().enumerate();
            all.filter(|(_, note)| weights::explains(note, backends(rule), arms))
        };
        let free = explaining().find(|(i, _)| taken.get(*i) == Some(&false));
        if let Some((i, note)) = free.or_else(|| explaining().next()) {
            if let Some(taken) = taken.get_mut(i) {
                *taken = true;
            }
            *slot = Some(note);
        }
    }
    found
}

fn check_rules(
    route: &Value,
    arms: &Arms,
    pair: &ServicePair,
    rule_name: Option<&str>,
) -> Result<(), RouteError> {
    let (route_title, service) = (title(route), pair.stable.clone());
    if list(route.pointer("/spec/rules")).is_empty() {
        return Err(RouteError::NoRules { route: route_title });
    }
    if rules(route).iter().any(|rule| in_scope(rule, arms, rule_name)) {
        return Ok(());
    }
    Err(match rule_name {
        Some(rule) => RouteError::NoSuchRule { route: route_title, rule: rule.to_owned(), service },
        None => RouteError::NotRouted { route: route_title, service },
    })
}

fn check_percentages(split: &Split) -> Result<(), RouteError> {
    for (what, value) in [("the weight", split.weight), ("the mirror", split.mirror)] {
        if let Some(value) = value.filter(|v| *v > 100) {
            return Err(RouteError::NotAPercentage { what, value });
        }
    }
    Ok(())
}

/// True when the rule replaces the path prefix that it matched: then the API wants exactly one match
/// in it, and a longer prefix would be replaced by the same text.
fn rewrites_prefix(rule: &Value) -> bool {
    let inner = backends(rule).iter().flat_map(filters);
    filters(rule)
        .iter()
        .chain(inner)
        .any(|f| f.pointer("/urlRewrite/path/replacePrefixMatch").is_some())
}

fn in_scope(rule: &Value, arms: &Arms, rule_name: Option<&str>) -> bool {
    let named = |name| rule.get("name").and_then(Value::as_str) == Some(name);
    arms.has_stable(rule) && rule_name.is_none_or(named)
}

fn set_rules(route: &mut Value, rules: Vec<Value>) {
    if let Some(spec) = route.get_mut("spec") {
        set(spec, "rules", json!(rules));
    }
}
