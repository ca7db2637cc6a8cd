//! What a release has changed of Services and routes: kept in the status, written before the change.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Draft;
use crate::spec;
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
    /// Since when the route is seen to be as it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) seen: Option<Timestamp>,
    /// The generation that was written over, until the route is seen to be as it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) over: Option<i64>,
}

impl RouteNote {
    pub(super) fn new(routing: &spec::TrafficRouting, notes: RouteNotes, split: Split) -> Self {
        let (service, rule) = (routing.service.clone(), routing.rule_name.clone());
        Self { service, rule, notes, split, seen: None, over: None }
    }

    /// The same split as before: what was seen of it still counts.
    pub(super) fn go_on(&mut self, before: &Self) {
        if before.split == self.split {
            (self.seen, self.over) = (before.seen, before.over);
        }
    }

    /// What is noted is this split, but for the weight.
    pub(super) fn is_of(&self, split: &Split) -> bool {
        Split { weight: split.weight, ..self.split.clone() } == *split
    }

    /// The split that is wanted now.
    pub(super) fn ask(&mut self, split: Split) {
        if self.split != split {
            (self.split, self.seen, self.over) = (split, None, None);
        }
    }

    /// The route is as it was written: since when.
    pub(super) fn is_seen(&mut self, now: Timestamp) -> Timestamp {
        self.over = None;
        *self.seen.get_or_insert(now)
    }

    /// The route has to be written. True when somebody else is why: it was as we wrote it, or it has been
    /// written since and is something else all the same. A write of ours that did not come through is
    /// nobody's doing.
    pub(super) fn is_undone(&mut self, route: &Value) -> bool {
        let generation = route.pointer("/metadata/generation").and_then(Value::as_i64);
        let was_seen = self.seen.take().is_some();
        let changed = self.over.is_some() && self.over != generation;
        if was_seen || self.over.is_none() {
            self.over = generation;
        }
        was_seen || changed
    }
}

pub(super) fn read(d: &Draft<'_>) -> Notes {
    let text = d.status.release.as_ref().and_then(|r| r.traffic_notes.as_deref());
    text.and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default()
}

/// The notes without what a router says as well: how large the canary's share is, and whether it is there.
pub(crate) fn lasting(text: &str) -> Option<String> {
    let mut notes: Notes = serde_json::from_str(text).ok()?;
    for note in notes.routes.values_mut() {
        note.split.weight = note.split.weight.map(|_| 0);
        (note.seen, note.over) = (None, None);
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

/// The least and the most weight of the new version in the noted routes: they differ where somebody has reset
/// one, or the process died between two writes.
pub(super) fn given_weights(d: &Draft<'_>, notes: &Notes) -> (u8, u8) {
    let weights = notes.routes.iter().map(|(key, note)| {
        let route = d.s.routes.get(key);
        route.and_then(|r| reach(r, &ServicePair::of(&note.service)).weight).unwrap_or(0)
    });
    (weights.clone().min().unwrap_or(0), weights.max().unwrap_or(0))
}

/// The split with at most `most` percent for the new version; none of it at 0. What `least` gives it is left.
pub(super) fn less(split: &Split, most: u8, least: &Split) -> Split {
    if most == 0 && least.is_stable() {
        return Split::stable();
    }
    let most_or_least = most.max(least.weight.unwrap_or(0));
    let mut out = Split { mirror: None, ..split.clone() };
    out.weight = split.weight.map(|w| w.min(most_or_least));
    if most == 0 {
        out.matches.retain(|m| least.matches.contains(m));
    }
    out
}
