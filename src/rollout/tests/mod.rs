//! Behaviour of whole plans on hand-made snapshots.

mod any;
mod begin;
mod between;
mod exhaustive;
mod gate;
mod hooks;
mod isolate;
mod lines;
mod moves;
mod overdue;
mod refusal;
mod requests;
mod routes;
mod watch;
mod ways_out;
mod windows;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::invariants::check;
use super::{Action, GateView, Plan, Proof, Snapshot, Urgency, plan};
use crate::api::status::{
    Phase, Rejected, ReleaseStatus, Request, RequestVerb, RolloutStatus, STATUS_SCHEMA, Stage,
    StepState,
};
use crate::api::{FINALIZER, GateEntry, GateSpec, KnobFields, Rollout};
use crate::workload::view::template_hash;
use crate::workload::{DeploymentView, PodView, ReplicaSetView, Write};

const NOW: Timestamp = Timestamp::constant(1_767_225_600, 0);

fn template(version: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"image": version}})
}

fn user() -> KnobFields {
    KnobFields {
        progress_deadline_seconds: Some(600),
        type_: Some("RollingUpdate".into()),
        max_surge: Some(IntOrString::Int(2)),
        max_unavailable: Some(IntOrString::Int(2)),
        ..KnobFields::default()
    }
}

/// A ReplicaSet of which `ready` pods are ready.
fn set(version: &str, replicas: i32, ready: i32) -> ReplicaSetView {
    let pod = |i: i32| PodView {
        name: format!("{version}-{i}"),
        created: None,
        ready_since: (i < ready).then_some(Timestamp::UNIX_EPOCH),
        problem: None,
    };
    ReplicaSetView {
        name: format!("web-{version}"),
        uid: version.into(),
        resource_version: "1".into(),
        hash: version.into(),
        revision: 1,
        replicas,
        min_ready_seconds: 0,
        status_replicas: replicas,
        available: ready,
        template: template(version),
        template_hash: template_hash(&template(version)),
        pods: (0..replicas).map(pod).collect(),
    }
}

/// A Deployment of ten whose template is `version`.
fn workload(version: &str, sets: Vec<ReplicaSetView>) -> DeploymentView {
    DeploymentView {
        name: "web".into(),
        uid: "u".into(),
        resource_version: "7".into(),
        generation: 2,
        observed_generation: 2,
        replicas: 10,
        fields: user(),
        template: template(version),
        template_hash: template_hash(&template(version)),
        wanted: None,
        selector: [("app".to_owned(), "web".to_owned())].into(),
        replica_sets: sets,
        deleting: false,
        owned: None,
    }
}

fn rollout(extra: &Value) -> Rollout {
    let mut object = json!({
        "apiVersion": "sluice.dev/v1beta1",
        "kind": "Rollout",
        "metadata": {"name": "web", "namespace": "default", "uid": "r", "generation": 3},
        "spec": {
            "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "strategy": {"canary": {"steps": [
                {"replicas": "20%", "pause": {}},
                {"replicas": "50%", "pause": {}},
                {"replicas": "100%"},
            ]}},
        },
    });
    for (key, value) in extra.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn snapshot(workload: Option<DeploymentView>) -> Snapshot {
    Snapshot {
        rollout: rollout(&json!({})),
        account: "sluice".into(),
        workload,
        gate: None,
        proof: Proof::Held { at: NOW },
        services: BTreeMap::new(),
        endpoints: BTreeMap::new(),
        routes: BTreeMap::new(),
        splits: BTreeMap::new(),
        runs: BTreeMap::new(),
        templates: BTreeMap::new(),
        hooks: BTreeMap::new(),
        calibration: None,
        rival: None,
        refusal: None,
    }
}

/// All ten pods of v1, v2 held by the gate.
fn held() -> Snapshot {
    let mut view = workload("v2", vec![set("v1", 10, 10)]);
    view.fields.paused = true;
    snapshot(Some(view))
}

/// A release from v1 to v2 at `stage`, seen with these sizes.
fn released(stage: Stage, state: StepState, new: i32, old: i32) -> Snapshot {
    let mut s = held();
    let mut view = workload("v2", vec![set("v1", old, old), set("v2", new, new)]);
    view.fields.paused = true;
    s.workload = Some(view);
    s.rollout.metadata.finalizers = Some(vec![FINALIZER.into()]);
    s.rollout.status = Some(RolloutStatus {
        schema: Some(STATUS_SCHEMA),
        phase: Some(Phase::Progressing),
        release: Some(ReleaseStatus {
            id: "r1".into(),
            template_hash: template_hash(&template("v2")),
            stable: "v1".into(),
            stage,
            state,
            originals: user(),
            attempt: 1,
            ..ReleaseStatus::default()
        }),
        ..RolloutStatus::default()
    });
    s
}

fn status(s: &mut Snapshot) -> &mut RolloutStatus {
    s.rollout.status.get_or_insert_default()
}

fn release(s: &mut Snapshot) -> &mut ReleaseStatus {
    status(s).release.get_or_insert_default()
}

fn ask(s: &mut Snapshot, verb: RequestVerb) {
    status(s).request = Some(Request { verb, by: Some("ann".into()), ..Request::default() });
}

fn plan_of(s: &Snapshot) -> Plan {
    let made = plan(s, NOW);
    assert_eq!(check(s, &made), [], "{made:#?}");
    made
}

/// What the plan wrote about itself is there: its status and the Gate's entry.
fn follow(s: &mut Snapshot, made: Plan) {
    for action in made.actions {
        if let Action::Gate { workload, entry } = action {
            let deployments = entry.map(|e| (workload, *e)).into_iter().collect();
            let account = Some("sluice".into());
            s.gate =
                Some(GateView { spec: GateSpec { account, deployments, ..GateSpec::default() } });
        }
    }
    s.rollout.status = Some(made.status);
}

fn events(plan: &Plan) -> Vec<&'static str> {
    let notes = plan.actions.iter().filter_map(|a| match a {
        Action::Event(note) => Some(note.reason),
        _ => None,
    });
    notes.collect()
}

fn waiting(plan: &Plan) -> &str {
    plan.waiting.as_ref().map_or("", |w| w.what.as_str())
}

fn place(plan: &Plan, which: impl Fn(&Action) -> bool) -> usize {
    plan.actions.iter().position(which).unwrap_or_else(|| panic!("not planned: {plan:#?}"))
}

fn deleted(s: &mut Snapshot) {
    s.rollout.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(NOW));
}

fn written(plan: &Plan) -> Option<&Write> {
    plan.actions.iter().find_map(|a| match a {
        Action::Workload { write, .. } => Some(write),
        _ => None,
    })
}

fn view_of(s: &mut Snapshot) -> &mut DeploymentView {
    s.workload.as_mut().unwrap()
}
