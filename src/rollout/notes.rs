//! What a release has changed of Services and routes: kept in the status, written before the change.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Draft;
use crate::traffic::{RouteNotes, ServicePair, Split, reach};

/// What the release has changed, kept in the status until the release is over.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Notes {
    /// Edited routes, by [`crate::spec::RouteRef::key`].
    pub(super) routes: BTreeMap<String, RouteNote>,
    /// Stable Services that were pinned.
    pub(super) pinned: BTreeSet<String>,
    /// Canary Services that were made.
    pub(super) canaries: BTreeSet<String>,
}

/// One edited route.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(super) struct RouteNote {
    /// The user's Service.
    pub(super) service: String,
    /// The one rule that is split, if the user named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<String>,
    /// What restores the route.
    pub(super) notes: RouteNotes,
    /// What was written last.
    pub(super) split: Split,
}

pub(super) fn read(d: &Draft<'_>) -> Notes {
    let text = d.status.release.as_ref().and_then(|r| r.traffic_notes.as_deref());
    text.and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default()
}

/// The notes without what a router says as well: how large the canary's share is.
pub(crate) fn lasting(text: &str) -> Option<String> {
    let mut notes: Notes = serde_json::from_str(text).ok()?;
    for note in notes.routes.values_mut() {
        note.split.weight = note.split.weight.map(|_| 0);
    }
    serde_json::to_string(&notes).ok()
}

pub(super) fn keep(d: &mut Draft<'_>, notes: &Notes) {
    let text = serde_json::to_string(notes).unwrap_or_default();
    if read(d) != *notes {
        d.release().traffic_notes = Some(text);
    }
}

/// A route was written that gives the new version traffic. The first note of a weight is made before that.
pub(super) fn is_given(d: &Draft<'_>, notes: &Notes) -> bool {
    notes.routes.iter().any(|(key, note)| {
        let pair = ServicePair::of(&note.service);
        let some = Split { weight: note.split.weight.filter(|w| *w > 0), ..note.split.clone() };
        !some.is_stable() || d.s.routes.get(key).is_some_and(|r| !reach(r, &pair).is_none())
    })
}

/// The split that was noted last, with the weight that the route has: a note of a weight may be a second
/// late, and the first one is made before the route is written.
pub(super) fn as_it_is(route: &Value, pair: &ServicePair, noted: &Split) -> Split {
    let weight = match (noted.weight, reach(route, pair).weight) {
        (Some(0), None) => None,
        (Some(noted), Some(is)) => Some(noted.max(is)),
        (noted, _) => noted,
    };
    Split { weight, ..noted.clone() }
}
