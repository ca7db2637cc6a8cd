//! The status that a kubelet writes.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Behaviour, Place};
use crate::sim::controllers::object::{self, at, condition, count, items, set, stamp, text, time};

/// How long a failed pull is tried before it is called a back-off.
const PULL_TRY: SignedDuration = SignedDuration::from_secs(10);

/// The first back-off between restarts, doubled with each one up to the last.
const FIRST_BACK_OFF_SECONDS: i64 = 10;
const LAST_BACK_OFF_SECONDS: i64 = 300;

/// One container's status, and when it changes by itself.
struct Container {
    status: Value,
    wake: Option<Timestamp>,
}

/// A node that is ready and has room for anything.
#[must_use]
pub fn node(name: &str, now: Timestamp) -> Value {
    let room = json!({ "cpu": "64", "memory": "256Gi", "pods": "10000" });
    let now = stamp(now);
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        "spec": {},
        "status": {
            "allocatable": room,
            "capacity": room,
            "conditions": [{
                "type": "Ready",
                "status": "True",
                "reason": "KubeletReady",
                "message": "kubelet is posting ready status",
                "lastHeartbeatTime": now,
                "lastTransitionTime": now,
            }],
        },
    })
}

/// The pod's status as it is now, and when it changes by itself.
pub(super) fn of(pod: &Value, place: &Place<'_>, now: Timestamp) -> (Value, Option<Timestamp>) {
    let since = time(pod, &["status", "startTime"]).unwrap_or(now);
    let containers: Vec<Container> = items(pod, &["spec", "containers"])
        .iter()
        .map(|container| {
            let image = text(container, &["image"]);
            let behaviour = place.behaviours.in_pod(image, object::name(pod));
            run(container, own_status(pod, container), behaviour, since, now)
        })
        .collect();
    let wake = containers.iter().filter_map(|container| container.wake).min();
    let statuses: Vec<Value> = containers.into_iter().map(|container| container.status).collect();
    let is_pending = statuses.iter().any(|own| {
        at(own, &["state", "waiting"]).is_some() && at(own, &["lastState", "terminated"]).is_none()
    });
    let mut status = pod.get("status").cloned().unwrap_or_default();
    set(&mut status, &["phase"], if is_pending { "Pending" } else { "Running" }.into());
    set(&mut status, &["startTime"], stamp(since).into());
    if text(pod, &["status", "podIP"]).is_empty() {
        let address = place.address.to_string();
        set(&mut status, &["podIP"], address.as_str().into());
        set(&mut status, &["podIPs"], json!([{ "ip": address }]));
    }
    set(&mut status, &["conditions"], conditions(pod, &statuses, now).into());
    set(&mut status, &["containerStatuses"], statuses.into());
    (status, wake)
}

fn own_status<'a>(pod: &'a Value, container: &Value) -> Option<&'a Value> {
    items(pod, &["status", "containerStatuses"])
        .iter()
        .find(|own| own["name"] == container["name"] && own["image"] == container["image"])
}

fn run(
    container: &Value,
    before: Option<&Value>,
    behaviour: Behaviour,
    pod_since: Timestamp,
    now: Timestamp,
) -> Container {
    let running = before.and_then(|own| time(own, &["state", "running", "startedAt"]));
    let restarts = before.map_or(0, |own| count(own, &["restartCount"]));
    let last = before.and_then(|own| at(own, &["lastState"])).cloned().unwrap_or(json!({}));
    let build = |state: Value, last: Value, restarts: i64, is_ready: bool| {
        let is_started = state.get("running").is_some();
        let image = text(container, &["image"]);
        json!({
            "name": container["name"],
            "image": image,
            "imageID": if is_started { format!("sim://{image}") } else { String::new() },
            "state": state,
            "lastState": last,
            "restartCount": restarts,
            "ready": is_ready,
            "started": is_started,
        })
    };
    let started = |since: Timestamp| json!({ "running": { "startedAt": stamp(since) } });
    match behaviour {
        Behaviour::Ready { after } => {
            let since = running.unwrap_or_else(|| if after.is_zero() { now } else { ceil(now) });
            let ready_at = since.checked_add(after).unwrap_or(now);
            let is_ready = after.is_zero() || ready_at <= now;
            let status = build(started(since), last, restarts, is_ready);
            Container { status, wake: (!is_ready).then_some(ready_at) }
        }
        Behaviour::NeverReady => {
            let since = running.unwrap_or(now);
            Container { status: build(started(since), last, restarts, false), wake: None }
        }
        Behaviour::PullError => {
            let backs_off_at = pod_since.checked_add(PULL_TRY).unwrap_or(now);
            let (reason, wake) = match backs_off_at > now {
                true => ("ErrImagePull", Some(backs_off_at)),
                false => ("ImagePullBackOff", None),
            };
            let message = format!("failed to pull image {}", container["image"]);
            let state = json!({ "waiting": { "reason": reason, "message": message } });
            Container { status: build(state, json!({}), 0, false), wake }
        }
        Behaviour::Crash { after } => {
            let ended = time(&last, &["terminated", "finishedAt"]);
            match crash(running, ended, restarts, after, now) {
                Crash::Runs { since, restarts, dies_at, ended } => {
                    let last = ended.map_or(last, terminated);
                    let status = build(started(since), last, restarts, false);
                    Container { status, wake: Some(dies_at) }
                }
                Crash::BacksOff { ended, until } => {
                    let message = "back-off restarting failed container";
                    let waiting = json!({ "reason": "CrashLoopBackOff", "message": message });
                    let state = json!({ "waiting": waiting });
                    let status = build(state, terminated(ended), restarts, false);
                    Container { status, wake: Some(until) }
                }
            }
        }
    }
}

fn terminated(ended: Timestamp) -> Value {
    let at = stamp(ended);
    json!({ "terminated": { "exitCode": 1, "reason": "Error", "startedAt": at, "finishedAt": at } })
}

/// Where a crashing container is in its loop.
enum Crash {
    /// It runs; `ended` is set when it has just died for the first time and restarted at once.
    Runs { since: Timestamp, restarts: i64, dies_at: Timestamp, ended: Option<Timestamp> },
    /// It waits for its next start.
    BacksOff { ended: Timestamp, until: Timestamp },
}

/// The first restart is at once, every later one after a back-off.
fn crash(
    running: Option<Timestamp>,
    ended: Option<Timestamp>,
    restarts: i64,
    after: SignedDuration,
    now: Timestamp,
) -> Crash {
    let later = |from: Timestamp, by| from.checked_add(by).unwrap_or(from);
    let runs = |since, restarts, ended| {
        let dies_at = later(since, after);
        Crash::Runs { since, restarts, dies_at, ended }
    };
    match (running, ended) {
        (Some(since), _) if later(since, after) > now => runs(since, restarts, None),
        (Some(_), _) if restarts == 0 => runs(ceil(now), 1, Some(now)),
        (Some(_), _) => Crash::BacksOff { ended: now, until: later(now, back_off(restarts)) },
        (None, Some(ended)) if later(ended, back_off(restarts)) > now => {
            Crash::BacksOff { ended, until: later(ended, back_off(restarts)) }
        }
        (None, Some(_)) => runs(ceil(now), restarts + 1, None),
        (None, None) => runs(ceil(now), 0, None),
    }
}

fn back_off(restarts: i64) -> SignedDuration {
    let doublings = u32::try_from(restarts - 1).unwrap_or(0).min(5);
    let seconds = FIRST_BACK_OFF_SECONDS << doublings;
    SignedDuration::from_secs(seconds.min(LAST_BACK_OFF_SECONDS))
}

/// The next whole second, since statuses hold no smaller part: a delay is never cut short.
fn ceil(now: Timestamp) -> Timestamp {
    let up = i64::from(now.subsec_nanosecond() > 0);
    Timestamp::from_second(now.as_second() + up).unwrap_or(now)
}

fn conditions(pod: &Value, containers: &[Value], now: Timestamp) -> Vec<Value> {
    let unready: Vec<&str> = containers
        .iter()
        .filter(|own| !object::flag(own, &["ready"]))
        .map(|own| text(own, &["name"]))
        .collect();
    let holds = |kind| condition(pod, kind).is_some_and(|own| text(own, &["status"]) == "True");
    let gates = items(pod, &["spec", "readinessGates"]);
    let is_gated = gates.iter().any(|gate| !holds(text(gate, &["conditionType"])));
    let why_unready = format!("containers with unready status: [{}]", unready.join(" "));
    let unready = (!unready.is_empty()).then_some(("ContainersNotReady", why_unready.as_str()));
    let gated = is_gated.then_some(("ReadinessGatesNotReady", "a readiness gate is not true"));
    let own = [
        ("PodReadyToStartContainers", None),
        ("Initialized", None),
        ("Ready", unready.or(gated)),
        ("ContainersReady", unready),
        ("PodScheduled", None),
    ];
    let foreign = items(pod, &["status", "conditions"])
        .iter()
        .filter(|found| !own.iter().any(|(kind, _)| *kind == text(found, &["type"])));
    let made = own.iter().map(|(kind, problem)| make_condition(pod, kind, *problem, now));
    made.chain(foreign.cloned()).collect()
}

fn make_condition(pod: &Value, kind: &str, problem: Option<(&str, &str)>, now: Timestamp) -> Value {
    let status = if problem.is_some() { "False" } else { "True" };
    let before = condition(pod, kind).filter(|own| text(own, &["status"]) == status);
    let since = before.and_then(|own| at(own, &["lastTransitionTime"])).cloned();
    let mut made = json!({
        "type": kind,
        "status": status,
        "lastTransitionTime": since.unwrap_or_else(|| stamp(now).into()),
    });
    if let Some((reason, message)) = problem {
        set(&mut made, &["reason"], reason.into());
        set(&mut made, &["message"], message.into());
    }
    made
}
