//! What the route itself cannot tell: the user's weights before the split.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::refs::{Arms, backends, filters, keys, rules, written_weight};

/// What is needed to restore a route exactly. Kept in the Rollout's status: stored before the route
/// is written, dropped when the restored route has been seen.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RouteNotes {
    /// One note for each rule that sends to the service, in the route's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleNote>,
}

/// A rule as it was before the split.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RuleNote {
    /// A hash of the rule's name and matches, by which it is found again after a reordering.
    pub rule: String,
    /// The weight of each backendRef.
    pub weights: Vec<WeightNote>,
    /// True when the rule had an empty list of filters (and not none at all).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_filters: bool,
}

/// A backendRef's weight as the user wrote it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WeightNote {
    /// What it points to.
    pub backend: String,
    /// The weight; absent when none was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u64>,
}

impl RouteNotes {
    /// The notes of a clean route.
    pub(super) fn of(clean: &Value, arms: &Arms) -> Self {
        let noted = rules(clean).iter().filter(|rule| arms.has_stable(rule));
        Self { rules: noted.map(RuleNote::of).collect() }
    }
}

impl RuleNote {
    fn of(rule: &Value) -> Self {
        let backends = backends(rule);
        let weights = keys(backends)
            .into_iter()
            .zip(backends)
            .map(|(backend, b)| WeightNote { backend, weight: written_weight(b) })
            .collect();
        let empty_filters = rule.get("filters").is_some() && filters(rule).is_empty();
        Self { rule: rule_hash(rule), weights, empty_filters }
    }
}

/// What a rule is known by: its name and its matches, which no edit of ours changes.
pub(super) fn rule_hash(rule: &Value) -> String {
    let identity = json!([rule.get("name"), rule.get("matches")]);
    let digest = Sha256::digest(identity.to_string().as_bytes());
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
