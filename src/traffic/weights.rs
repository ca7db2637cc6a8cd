//! Splitting a service's own share of a rule, and putting it together again.
//!
//! Every weight is divided by the greatest common divisor of the rule's weights and multiplied by
//! 100; of the service's, the canary gets its percent. Sums and proportions are exact, and the
//! common case, one backend, reads 90 and 10.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::api::rollout::HeaderModifier;

use super::RouteError;
use super::filters::with_headers;
use super::notes::RuleNote;
use super::refs::{Arms, filters, keys, set, unset, weight};

/// The largest weight of the Gateway API.
const LARGEST: u64 = 1_000_000;

/// What a canary backendRef is given.
pub(super) struct CanaryShare<'a> {
    pub(super) service: &'a str,
    pub(super) percent: u8,
    pub(super) headers: Option<&'a HeaderModifier>,
}

/// The backendRefs with a canary one after each of the service's.
pub(super) fn split(
    backends: &[Value],
    arms: &Arms,
    share: &CanaryShare,
    path: &str,
) -> Result<Vec<Value>, RouteError> {
    let canary_part = u64::from(share.percent);
    let mut out = Vec::with_capacity(backends.len() + 1);
    for (i, (backend, full)) in backends.iter().zip(full_weights(backends)).enumerate() {
        if full > LARGEST {
            let path = format!("{path}.backendRefs[{i}]");
            return Err(RouteError::WeightTooLarge { path, weight: weight(backend), needed: full });
        }
        let mut user = backend.clone();
        if !arms.is_stable(backend) {
            set(&mut user, "weight", json!(full));
            out.push(user);
            continue;
        }
        let unit = full / 100;
        let mut canary = canary_ref(backend, share.service, share.headers);
        set(&mut canary, "weight", json!(unit * canary_part));
        set(&mut user, "weight", json!(unit * (100 - canary_part)));
        out.extend([user, canary]);
    }
    Ok(out)
}

/// A copy of the service's backendRef that points to the canary Service.
pub(super) fn canary_ref(stable: &Value, service: &str, headers: Option<&HeaderModifier>) -> Value {
    let mut canary = stable.clone();
    set(&mut canary, "name", json!(service));
    if let Some(headers) = headers {
        let merged = with_headers(filters(stable), headers);
        set(&mut canary, "filters", Value::Array(merged));
    }
    canary
}

/// The backendRefs without ours, with the user's weights.
///
/// Where the other backends are as we wrote them, the noted weights come back. Where somebody
/// changed or added one by hand, he meant it against the numbers that he saw: then these stay, the
/// canary's part goes back to the service, and nobody's proportion changes.
pub(super) fn merge(backends: &[Value], arms: &Arms, note: Option<&RuleNote>) -> Vec<Value> {
    let mut users: Vec<Value> = backends.iter().filter(|b| !arms.is_canary(b)).cloned().collect();
    if users.len() == backends.len() {
        return users;
    }
    if let Some(note) = note.filter(|note| explains(note, backends, arms)) {
        let noted: BTreeMap<&str, Option<u64>> =
            note.weights.iter().map(|w| (w.backend.as_str(), w.weight)).collect();
        for (key, user) in keys(&users).iter().zip(&mut users) {
            match noted.get(key.as_str()).copied().flatten() {
                Some(weight) => set(user, "weight", json!(weight)),
                None => unset(user, "weight"),
            }
        }
        return users;
    }
    let mut shares: BTreeMap<String, u64> = BTreeMap::new();
    for canary in backends.iter().filter(|b| arms.is_canary(b)) {
        *shares.entry(port(canary)).or_default() += weight(canary);
    }
    for user in users.iter_mut().filter(|user| arms.is_stable(user)) {
        let whole = weight(user) + shares.remove(&port(user)).unwrap_or(0);
        set(user, "weight", json!(whole));
    }
    users
}

/// True when every backendRef of the user's is in the note, with the weight that we would have
/// written; in a split rule the service's own may be any, because the percent is not noted.
pub(super) fn explains(note: &RuleNote, backends: &[Value], arms: &Arms) -> bool {
    let users: Vec<Value> = backends.iter().filter(|b| !arms.is_canary(b)).cloned().collect();
    let is_split = users.len() < backends.len();
    let original: Vec<u64> = note.weights.iter().map(|w| w.weight.unwrap_or(1)).collect();
    let written = if is_split { full(&original) } else { original };
    let written: BTreeMap<&str, u64> =
        note.weights.iter().map(|w| w.backend.as_str()).zip(written).collect();
    keys(&users).iter().zip(&users).all(|(key, user)| {
        let any = is_split && arms.is_stable(user);
        written.get(key.as_str()).is_some_and(|w| any || *w == weight(user))
    })
}

/// The canary's percentage of the service's share in a rule. None when the rule is not split.
pub(super) fn percent(backends: &[Value], arms: &Arms) -> Option<u8> {
    let sum = |canary: bool| -> u64 {
        let mine = backends.iter().filter(|b| match canary {
            true => arms.is_canary(b),
            false => arms.is_stable(b),
        });
        mine.map(weight).sum()
    };
    let (canary, stable) = (sum(true), sum(false));
    if !backends.iter().any(|b| arms.is_canary(b)) {
        return None;
    }
    // Rounded up: a share that is not zero is never shown as zero.
    let percent = (canary * 100).div_ceil((canary + stable).max(1));
    Some(u8::try_from(percent).unwrap_or(100))
}

fn port(backend: &Value) -> String {
    backend.get("port").map(Value::to_string).unwrap_or_default()
}

fn full_weights(backends: &[Value]) -> Vec<u64> {
    full(&backends.iter().map(weight).collect::<Vec<_>>())
}

fn full(weights: &[u64]) -> Vec<u64> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    weights.iter().map(|w| (w / divisor).saturating_mul(100)).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
