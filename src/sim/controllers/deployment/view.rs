//! What a sync reads of a Deployment and of a ReplicaSet, with the API server's defaults.

use std::sync::Arc;

use serde_json::Value;

use super::super::object::{self, annotation, count, int, text};

/// The revision of a ReplicaSet, and of a Deployment.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// The revisions that a ReplicaSet had before.
pub(super) const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The Deployment's size when it last sized this ReplicaSet.
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// The same with its surge.
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// What the Deployment asks for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) replicas: i64,
    pub(super) surge: i64,
    pub(super) unavailable: i64,
    pub(super) is_rolling: bool,
    pub(super) is_paused: bool,
    pub(super) min_ready: i64,
    /// None when the deadline is the largest number: no progress is judged then.
    pub(super) deadline: Option<i64>,
    pub(super) history: Option<i64>,
    pub(super) generation: i64,
}

impl Wanted {
    pub(super) fn read(deployment: &Value) -> Self {
        let replicas = int(deployment, &["spec", "replicas"]).unwrap_or(1);
        let is_rolling = text(deployment, &["spec", "strategy", "type"]) != "Recreate";
        let field = |key| object::at(deployment, &["spec", "strategy", "rollingUpdate", key]);
        let surge = scaled(field("maxSurge"), replicas, true);
        let mut unavailable = scaled(field("maxUnavailable"), replicas, false);
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        let limited = |key, default| {
            let limit = int(deployment, &["spec", key]).unwrap_or(default);
            (limit != i64::from(i32::MAX)).then_some(limit)
        };
        Self {
            replicas,
            surge: if is_rolling { surge } else { 0 },
            unavailable: if is_rolling { unavailable.min(replicas) } else { 0 },
            is_rolling,
            is_paused: object::flag(deployment, &["spec", "paused"]),
            min_ready: count(deployment, &["spec", "minReadySeconds"]),
            deadline: limited("progressDeadlineSeconds", 600),
            history: limited("revisionHistoryLimit", 10),
            generation: object::generation(deployment),
        }
    }

    pub(super) fn min_available(&self) -> i64 {
        self.replicas - self.unavailable
    }

    pub(super) fn max_replicas(&self) -> i64 {
        self.replicas + self.surge
    }
}

/// An int-or-percent of `total`; a missing one is the API server's 25 %.
fn scaled(value: Option<&Value>, total: i64, is_up: bool) -> i64 {
    let percent = match value {
        None => 25,
        Some(Value::String(written)) => {
            written.trim_end_matches('%').parse::<i64>().unwrap_or_default()
        }
        Some(number) => return number.as_i64().unwrap_or_default(),
    };
    (percent * total + if is_up { 99 } else { 0 }) / 100
}

/// A ReplicaSet.
#[derive(Debug, Clone)]
pub(super) struct Set {
    pub(super) object: Arc<Value>,
    pub(super) replicas: i64,
}

impl Set {
    pub(super) fn read(object: Arc<Value>) -> Self {
        let replicas = int(&object, &["spec", "replicas"]).unwrap_or(1);
        Self { object, replicas }
    }

    pub(super) fn uid(&self) -> &str {
        object::uid(&self.object)
    }

    pub(super) fn name(&self) -> &str {
        object::name(&self.object)
    }

    pub(super) fn age(&self) -> (&str, &str) {
        object::age(&self.object)
    }

    pub(super) fn status(&self, field: &str) -> i64 {
        count(&self.object, &["status", field])
    }

    pub(super) fn available(&self) -> i64 {
        self.status("availableReplicas")
    }

    pub(super) fn desired(&self) -> Option<i64> {
        self.number(DESIRED)
    }

    pub(super) fn number(&self, key: &str) -> Option<i64> {
        let number = annotation(&self.object, key)?.parse::<u32>().ok()?;
        i32::try_from(number).ok().map(i64::from)
    }

    /// The revision; None when it is not a number, zero when there is none.
    pub(super) fn revision(&self) -> Option<i64> {
        annotation(&self.object, REVISION).map_or(Some(0), |written| written.parse().ok())
    }
}
