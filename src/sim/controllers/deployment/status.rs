//! The Deployment's status: counts, and whether it progresses.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::super::object::{self, at, count, items, stamp, text};
use super::view::{Set, Wanted};
use super::{Sets, Step, Sync};

pub(super) const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";

const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";

/// Whether all replicas are of the new template and available, and no others are there.
pub(super) fn is_complete(wanted: &Wanted, status: &Value) -> bool {
    ["updatedReplicas", "replicas", "availableReplicas"]
        .iter()
        .all(|field| count(status, &[field]) == wanted.replicas)
        && count(status, &["observedGeneration"]) >= wanted.generation
}

/// Whether more pods are new, ready or available than before, or fewer are old.
fn has_progressed(before: &Value, after: &Value) -> bool {
    let old = |status| count(status, &["replicas"]) - count(status, &["updatedReplicas"]);
    let grew = |field: &str| count(after, &[field]) > count(before, &[field]);
    old(after) < old(before)
        || ["updatedReplicas", "readyReplicas", "availableReplicas"].into_iter().any(grew)
}

impl Sync {
    /// Notes that the Deployment was paused or resumed, so that a deadline cannot pass meanwhile.
    pub(super) fn check_paused(&mut self) -> Step<()> {
        let condition = object::condition(&self.deployment, PROGRESSING);
        let reason = condition.map_or("", |found| text(found, &["reason"]));
        if self.wanted.deadline.is_none() || reason == TIMED_OUT {
            return Ok(());
        }
        let (reason, message) = match (self.wanted.is_paused, reason == PAUSED) {
            (true, false) => (PAUSED, "Deployment is paused"),
            (false, true) => (RESUMED, "Deployment is resumed"),
            _ => return Ok(()),
        };
        let condition = self.condition(PROGRESSING, "Unknown", reason, message);
        let mut deployment = (*self.deployment).clone();
        set_condition(&mut deployment["status"], condition);
        self.write_deployment(deployment)
    }

    /// Sets `Progressing` to true for a new reason on a copy of the Deployment.
    pub(super) fn note_progress(&self, deployment: &mut Value, reason: &str, message: &str) {
        let condition = self.condition(PROGRESSING, "True", reason, message);
        set_condition(&mut deployment["status"], condition);
    }

    /// The status without a judgement of progress.
    pub(super) fn sync_status(&mut self, sets: &Sets) -> Step<()> {
        let status = self.counted(sets);
        if object::same(&status, &self.deployment["status"]) {
            return Ok(());
        }
        self.write_status(status)
    }

    /// The status with a judgement of progress.
    pub(super) fn sync_progress(&mut self, sets: &Sets) -> Step<()> {
        let mut status = self.counted(sets);
        if self.wanted.deadline.is_none() {
            remove_condition(&mut status, PROGRESSING);
        }
        let current = object::condition(&self.deployment, PROGRESSING);
        let reason = current.map(|found| text(found, &["reason"]));
        let is_done = count(&status, &["replicas"]) == count(&status, &["updatedReplicas"])
            && reason == Some(COMPLETE);
        if self.wanted.deadline.is_some() && !is_done {
            self.judge_progress(sets, &mut status);
        }
        match failure(sets) {
            Some(failure) => set_condition(&mut status, failure),
            None => remove_condition(&mut status, REPLICA_FAILURE),
        }
        if object::same(&status, &self.deployment["status"]) {
            self.out.wake = self.deadline_at(&status).filter(|wake| *wake > self.now);
            return Ok(());
        }
        self.write_status(status)
    }

    fn judge_progress(&self, sets: &Sets, status: &mut Value) {
        let who = sets.new.as_ref().map_or_else(
            || format!("Deployment {:?}", object::name(&self.deployment)),
            |new| format!("ReplicaSet {:?}", new.name()),
        );
        let before = &self.deployment["status"];
        if is_complete(&self.wanted, status) {
            let message = format!("{who} has successfully progressed.");
            set_condition(status, self.condition(PROGRESSING, "True", COMPLETE, &message));
        } else if has_progressed(before, status) {
            let message = format!("{who} is progressing.");
            let mut next = self.condition(PROGRESSING, "True", "ReplicaSetUpdated", &message);
            if let Some(current) = object::condition(&self.deployment, PROGRESSING) {
                if text(current, &["status"]) == "True" {
                    next["lastTransitionTime"] = current["lastTransitionTime"].clone();
                }
                remove_condition(status, PROGRESSING);
            }
            set_condition(status, next);
        } else if self.is_timed_out(status) {
            let message = format!("{who} has timed out progressing.");
            set_condition(status, self.condition(PROGRESSING, "False", TIMED_OUT, &message));
        }
    }

    fn is_timed_out(&self, status: &Value) -> bool {
        let Some(condition) = find(status, PROGRESSING) else { return false };
        match text(condition, &["reason"]) {
            COMPLETE => false,
            TIMED_OUT => true,
            _ => self.limit(condition).is_some_and(|limit| limit < self.now),
        }
    }

    fn limit(&self, condition: &Value) -> Option<Timestamp> {
        let deadline = SignedDuration::from_secs(self.wanted.deadline?);
        object::time(condition, &["lastUpdateTime"])?.checked_add(deadline).ok()
    }

    /// When to look whether the deadline has passed.
    fn deadline_at(&self, status: &Value) -> Option<Timestamp> {
        let current = object::condition(&self.deployment, PROGRESSING)?;
        if is_complete(&self.wanted, status) || text(current, &["reason"]) == TIMED_OUT {
            return None;
        }
        self.limit(current)?.checked_add(SignedDuration::from_secs(1)).ok()
    }

    fn write_status(&mut self, status: Value) -> Step<()> {
        let mut deployment = (*self.deployment).clone();
        deployment["status"] = status;
        self.write_deployment(deployment)
    }

    fn counted(&self, sets: &Sets) -> Value {
        let sum = |field: &str| sets.all().map(|set| set.status(field)).sum::<i64>();
        let available = sum("availableReplicas");
        let total: i64 = sets.all().map(|set| set.replicas).sum();
        let updated = sets.new.as_ref().map_or(0, |new| new.status("replicas"));
        let mut status = Map::new();
        let counts = [
            ("observedGeneration", self.wanted.generation),
            ("replicas", sum("replicas")),
            ("updatedReplicas", updated),
            ("readyReplicas", sum("readyReplicas")),
            ("availableReplicas", available),
            ("unavailableReplicas", (total - available).max(0)),
        ];
        for (field, number) in counts.into_iter().filter(|(_, number)| *number != 0) {
            status.insert(field.to_owned(), number.into());
        }
        if let Some(terminating) = terminating(sets) {
            status.insert("terminatingReplicas".to_owned(), terminating.into());
        }
        if let Some(collisions) = at(&self.deployment, &["status", "collisionCount"]) {
            status.insert("collisionCount".to_owned(), collisions.clone());
        }
        let conditions = items(&self.deployment, &["status", "conditions"]).to_vec();
        status.insert("conditions".to_owned(), conditions.into());
        let mut status = Value::Object(status);
        let condition = if available >= self.wanted.min_available() {
            let message = "Deployment has minimum availability.";
            self.condition(AVAILABLE, "True", "MinimumReplicasAvailable", message)
        } else {
            let message = "Deployment does not have minimum availability.";
            self.condition(AVAILABLE, "False", "MinimumReplicasUnavailable", message)
        };
        set_condition(&mut status, condition);
        status
    }

    fn condition(&self, kind: &str, status: &str, reason: &str, message: &str) -> Value {
        let now = stamp(self.now);
        json!({
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastUpdateTime": now,
            "lastTransitionTime": now,
        })
    }
}

/// The pods on their way out; unknown while a ReplicaSet that was synced does not say.
fn terminating(sets: &Sets) -> Option<i64> {
    let own = |set: &Set| match object::int(&set.object, &["status", "terminatingReplicas"]) {
        None if set.status("observedGeneration") == 0 => Some(0),
        own => own,
    };
    sets.all().map(own).sum()
}

/// The failure of the new ReplicaSet, else of any other, as a condition of the Deployment.
fn failure(sets: &Sets) -> Option<Value> {
    let mut candidates = sets.new.iter().chain(&sets.old);
    let failed = candidates.find_map(|set| object::condition(&set.object, REPLICA_FAILURE))?;
    let mut failed = failed.clone();
    failed["lastUpdateTime"] = failed["lastTransitionTime"].clone();
    Some(failed)
}

fn find<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    items(status, &["conditions"]).iter().find(|found| text(found, &["type"]) == kind)
}

/// Adds or replaces the condition; one with the same status and reason stays as it is, and one
/// with the same status keeps its transition time.
fn set_condition(status: &mut Value, mut next: Value) {
    let current = find(status, text(&next, &["type"]));
    if let Some(current) = current.filter(|current| current["status"] == next["status"]) {
        if current["reason"] == next["reason"] {
            return;
        }
        next["lastTransitionTime"] = current["lastTransitionTime"].clone();
    }
    remove_condition(status, text(&next, &["type"]));
    let mut conditions = items(status, &["conditions"]).to_vec();
    conditions.push(next);
    object::set(status, &["conditions"], conditions.into());
}

fn remove_condition(status: &mut Value, kind: &str) {
    if let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) {
        conditions.retain(|found| text(found, &["type"]) != kind);
    }
}
