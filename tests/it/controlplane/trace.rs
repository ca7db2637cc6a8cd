//! A scenario as data, what it did, and the comparison with what it did before.
//!
//! A scenario is a Deployment and a list of writes; after each, pods become ready one by one until
//! nothing moves. `tests/traces/NAME.json` is what the real controllers did. `SLUICE_TRACES=write`
//! writes these files anew; without it a run that differs fails.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::harness::Who;
use super::stage::{NEVER_AVAILABLE, NO_DEADLINE, Stage, template};

/// One write, in the words of the trace files.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Write {
    /// A merge patch of the Deployment's spec.
    Spec(Value),
    /// A ReplicaSet's `/scale`, by the tag of its image.
    Scale(String, i32),
    /// A ReplicaSet's size in one patch with the Deployment's replicas, which are noted on it as the
    /// native controller notes them.
    Sized(String, i32, i32),
    /// A merge patch of a ReplicaSet's spec, by the tag of its image.
    Set(String, Value),
    /// A pod of this tag stops being ready.
    Unready(String),
}

/// Where a step came to rest.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rest {
    /// Spec sizes of the ReplicaSets that are not empty, by tag.
    pub sizes: BTreeMap<String, i32>,
    /// Available pods of each, as its status says.
    pub available: BTreeMap<String, i32>,
    /// `status.unavailableReplicas` and `status.updatedReplicas` of the Deployment.
    pub unavailable: i32,
    /// See `unavailable`.
    pub updated: i32,
    /// The reason of the condition Progressing.
    pub progressing: Option<String>,
}

/// A write and what came of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The write.
    pub write: Write,
    /// Each change of a ReplicaSet's `spec.replicas`: its image's tag and the new size.
    pub sizes: Vec<(String, i32)>,
    /// The fewest pods that were ready at any moment. Where a size goes down and up again at once,
    /// it depends on who of the real controllers is quicker, so that runs may differ in it.
    pub least_ready: usize,
    /// Where it came to rest.
    pub rest: Rest,
}

impl Step {
    /// What does not depend on a race.
    pub fn settled(&self) -> (&Write, &[(String, i32)], &Rest) {
        (&self.write, &self.sizes, &self.rest)
    }
}

/// What happened to a Deployment.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Trace {
    /// Its spec, merged over `stage::manifest`; all its pods were ready.
    pub given: Value,
    /// Tags whose pods never get ready.
    pub broken: Vec<String>,
    /// What was written, one after the other.
    pub steps: Vec<Step>,
}

impl Trace {
    /// New and old at the end of each step.
    pub fn pairs(&self) -> Vec<(i32, i32)> {
        let size = |step: &Step, tag: &str| step.rest.sizes.get(tag).copied().unwrap_or_default();
        self.steps.iter().map(|step| (size(step, "v2"), size(step, "v1"))).collect()
    }

    /// All three versions, newest first, at the end of each step.
    pub fn triples(&self) -> Vec<(i32, i32, i32)> {
        let size = |step: &Step, tag: &str| step.rest.sizes.get(tag).copied().unwrap_or_default();
        let all = self.steps.iter();
        all.map(|step| (size(step, "v3"), size(step, "v2"), size(step, "v1"))).collect()
    }

    /// New and old after each change of a size in a step, from `(new, old)` on.
    pub fn path(&self, step: usize) -> Vec<(i32, i32)> {
        let before = step.checked_sub(1).map(|one| self.steps[one].rest.sizes.clone());
        let replicas = self.given["replicas"].as_i64().and_then(|n| i32::try_from(n).ok());
        let mut sizes = before.unwrap_or_else(|| [("v1".to_owned(), replicas.unwrap_or(1))].into());
        let mut path = Vec::new();
        for (tag, replicas) in &self.steps[step].sizes {
            sizes.insert(tag.clone(), *replicas);
            let size = |tag: &str| sizes.get(tag).copied().unwrap_or_default();
            path.push((size("v2"), size("v1")));
        }
        path
    }
}

/// Plays a scenario on the real control plane and compares it with its file. `None` without one.
pub async fn on_the_real_one(
    name: &str,
    replicas: i32,
    broken: &[&str],
    writes: Vec<Write>,
) -> Option<Trace> {
    let stage = Stage::on_the_real_one(name).await?;
    let given = json!({"replicas": replicas});
    let trace = play(&stage, given, broken, writes).await;
    compare(name, &trace);
    Some(trace)
}

/// Plays a scenario.
pub async fn play(stage: &Stage, given: Value, broken: &[&str], writes: Vec<Write>) -> Trace {
    stage.deploy(1, given.clone()).await;
    stage.recorded();
    stage.least_ready();
    let broken: Vec<String> = broken.iter().map(|tag| (*tag).to_owned()).collect();
    let mut steps = Vec::new();
    for write in writes {
        match write.clone() {
            Write::Spec(spec) => {
                if spec.get("template").is_some() {
                    stage.older_sets_are_older().await;
                }
                drop(stage.spec(Who::Sluice, spec).await);
            }
            Write::Scale(tag, replicas) => stage.scale_set(&tag, replicas).await,
            Write::Sized(tag, size, desired) => {
                stage.patch_set(&tag, sized(size, desired)).await;
            }
            Write::Set(tag, spec) => stage.patch_set(&tag, json!({"spec": spec})).await,
            Write::Unready(tag) => stage.unready(&tag).await,
        }
        let sizes = stage.settle_but(|tag| broken.iter().any(|one| one == tag)).await;
        let least_ready = stage.least_ready();
        steps.push(Step { write, sizes, least_ready, rest: stage.rest().await });
    }
    Trace { given, broken, steps }
}

fn compare(name: &str, trace: &Trace) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/traces/{name}.json"));
    if std::env::var("SLUICE_TRACES").as_deref() == Ok("write") {
        let text = serde_json::to_string_pretty(trace).expect("a trace is JSON");
        std::fs::write(&file, text + "\n").expect("the trace is written");
        return;
    }
    let text = std::fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; SLUICE_TRACES=write", file.display()));
    let before: Trace = serde_json::from_str(&text).expect("a trace file");
    for (number, (was, is)) in before.steps.iter().zip(&trace.steps).enumerate() {
        assert_eq!(was.settled(), is.settled(), "{name}: step {number}, {}", file.display());
    }
    let shape = |trace: &Trace| (trace.given.clone(), trace.broken.clone(), trace.steps.len());
    assert_eq!(shape(&before), shape(trace), "{name}, {}", file.display());
}

/// A new template, held.
pub fn held(tag: &str) -> Write {
    let mut spec = template(tag)["spec"].clone();
    spec["paused"] = json!(true);
    Write::Spec(spec)
}

/// The knob: new pods never count as available, and this much may surge or be missing.
pub fn moving(surge: impl Into<Value>, unavailable: impl Into<Value>) -> Write {
    Write::Spec(json!({"paused": false, "minReadySeconds": NEVER_AVAILABLE,
        "progressDeadlineSeconds": NO_DEADLINE, "strategy": {"rollingUpdate":
        {"maxSurge": surge.into(), "maxUnavailable": unavailable.into()}}}))
}

/// The rest: paused, without surge, with the user's own `minReadySeconds` and deadline.
pub fn resting() -> Write {
    Write::Spec(json!({"paused": true, "minReadySeconds": 0, "progressDeadlineSeconds": 600,
        "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}}))
}

/// The first of the two writes that leave the rest.
pub fn leaving() -> Write {
    Write::Spec(json!({"minReadySeconds": NEVER_AVAILABLE,
        "progressDeadlineSeconds": NO_DEADLINE}))
}

/// The user's own fields, and open or not.
pub fn users(paused: bool, surge: impl Into<Value>) -> Write {
    Write::Spec(json!({"paused": paused, "minReadySeconds": 0, "progressDeadlineSeconds": 600,
        "strategy": {"rollingUpdate": {"maxSurge": surge.into(), "maxUnavailable": "25%"}}}))
}

/// A ReplicaSet whose pods never count as available. It stays so while it is not the new one.
pub fn marked(tag: &str) -> Write {
    Write::Set(tag.to_owned(), json!({"minReadySeconds": NEVER_AVAILABLE}))
}

/// The body of [`Write::Sized`], without a surge.
pub fn sized(size: i32, desired: i32) -> Value {
    json!({
        "metadata": {"annotations": {
            "deployment.kubernetes.io/desired-replicas": desired.to_string(),
            "deployment.kubernetes.io/max-replicas": desired.to_string(),
        }},
        "spec": {"replicas": size},
    })
}

/// The Deployment's replicas.
pub fn replicas(count: i32) -> Write {
    Write::Spec(json!({"replicas": count}))
}

/// A ReplicaSet's size.
pub fn scale(tag: &str, replicas: i32) -> Write {
    Write::Scale(tag.to_owned(), replicas)
}
