//! What happens to one pod next.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::Value;

use super::{Behaviours, status};
use crate::sim::controllers::object::{self, items, text};

/// Where a pod is to run, and how.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The node for a pod that has none.
    pub node: &'a str,
    /// The address for a pod that has none.
    pub address: IpAddr,
    /// How its containers behave.
    pub behaviours: &'a Behaviours,
}

/// One write to a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum PodWrite {
    /// Binds it to the node of its place.
    Bind,
    /// Replaces its status.
    Status(Value),
    /// Removes it: grace 0, with its uid as precondition.
    Delete,
}

/// The next write to a pod, and when to look at it again though nothing changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Next {
    /// The write.
    pub write: Option<PodWrite>,
    /// The time.
    pub wake: Option<Timestamp>,
}

/// Decides for one pod. All state is in the pod itself.
pub fn next(pod: &Value, place: &Place<'_>, now: Timestamp) -> Next {
    let is_bound = !text(pod, &["spec", "nodeName"]).is_empty();
    if object::is_deleting(pod) {
        return stop(pod, place, is_bound, now);
    }
    if !is_bound {
        let is_gated = !items(pod, &["spec", "schedulingGates"]).is_empty();
        return Next { write: (!is_gated).then_some(PodWrite::Bind), wake: None };
    }
    if matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed") {
        return Next::default();
    }
    let (status, wake) = status::of(pod, place, now);
    let is_same = object::same(&status, &pod["status"]);
    Next { write: (!is_same).then_some(PodWrite::Status(status)), wake }
}

/// A deleted pod serves for its time, then it is removed.
fn stop(pod: &Value, place: &Place<'_>, is_bound: bool, now: Timestamp) -> Next {
    let metadata = &pod["metadata"];
    let grace = object::count(metadata, &["deletionGracePeriodSeconds"]);
    let serves = place.behaviours.stopping().min(jiff::SignedDuration::from_secs(grace));
    let limit = object::time(metadata, &["deletionTimestamp"]);
    let asked = limit.and_then(|at| at.checked_sub(jiff::SignedDuration::from_secs(grace)).ok());
    let until = asked.and_then(|at| at.checked_add(serves).ok());
    match until {
        Some(until) if is_bound && !serves.is_zero() && until > now => {
            Next { write: None, wake: Some(until) }
        }
        _ => Next { write: Some(PodWrite::Delete), wake: None },
    }
}
