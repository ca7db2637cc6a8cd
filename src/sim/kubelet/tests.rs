use std::net::{IpAddr, Ipv4Addr};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Behaviour, Behaviours, Next, Place, PodWrite, next};
use crate::sim::controllers::object::{condition, count, set, text};

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 128, 0, 7));

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn after(seconds: i64) -> Timestamp {
    start() + SignedDuration::from_secs(seconds)
}

fn pod(tag: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "web-1", "namespace": "default", "uid": "u-1" },
        "spec": { "containers": [{ "name": "web", "image": format!("web:{tag}") }] },
        "status": { "phase": "Pending" },
    })
}

fn decide(pod: &Value, behaviours: &Behaviours, now: Timestamp) -> Next {
    next(pod, &Place { node: "node-1", address: ADDRESS, behaviours }, now)
}

/// Takes every write until there is none; returns how many there were, and the wake.
fn run(pod: &mut Value, behaviours: &Behaviours, now: Timestamp) -> (usize, Option<Timestamp>) {
    for writes in 0..10 {
        let next = decide(pod, behaviours, now);
        match next.write {
            None => return (writes, next.wake),
            Some(PodWrite::Bind) => set(pod, &["spec", "nodeName"], "node-1".into()),
            Some(PodWrite::Status(status)) => pod["status"] = status,
            Some(PodWrite::Delete) => panic!("the pod is not being deleted"),
        }
    }
    panic!("the pod never rests: {pod}");
}

fn running(tag: &str, behaviours: &Behaviours) -> (Value, Option<Timestamp>) {
    let mut pod = pod(tag);
    let (_, wake) = run(&mut pod, behaviours, start());
    (pod, wake)
}

fn is_true(pod: &Value, kind: &str) -> bool {
    condition(pod, kind).is_some_and(|own| own["status"] == "True")
}

fn container(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

#[test]
fn a_pod_is_bound_and_ready_in_two_writes() {
    let mut pod = pod("v1");
    assert_eq!(run(&mut pod, &Behaviours::default(), start()), (2, None));
    for kind in ["PodScheduled", "Initialized", "ContainersReady", "Ready"] {
        let own = condition(&pod, kind).unwrap();
        assert_eq!(own["status"], "True", "{kind}");
        assert_eq!(own["lastTransitionTime"], "2026-01-01T00:00:00Z", "{kind}");
    }
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(pod["status"]["podIP"], "10.128.0.7");
    assert_eq!(container(&pod)["ready"], true);
    assert_eq!(container(&pod)["restartCount"], 0);
}

#[test]
fn a_pod_with_a_scheduling_gate_is_not_bound() {
    let mut pod = pod("v1");
    pod["spec"]["schedulingGates"] = json!([{ "name": "quota" }]);
    assert_eq!(run(&mut pod, &Behaviours::default(), start()), (0, None));
}

#[test]
fn a_slow_pod_is_ready_after_its_time_and_no_sooner() {
    for (tag, seconds) in [("v2-slow-5s", 5), ("slow", 3), ("v2", 2)] {
        let behaviours = Behaviours::default().ready_after(SignedDuration::from_secs(2));
        let (mut pod, wake) = running(tag, &behaviours);
        assert!(!is_true(&pod, "Ready"), "{tag}");
        assert_eq!(pod["status"]["phase"], "Running", "{tag}");
        assert_eq!(wake, Some(after(seconds)), "{tag}");
        run(&mut pod, &behaviours, after(seconds) - SignedDuration::from_millis(1));
        assert!(!is_true(&pod, "Ready"), "{tag}");
        assert_eq!(run(&mut pod, &behaviours, after(seconds)), (1, None), "{tag}");
        assert!(is_true(&pod, "Ready") && is_true(&pod, "ContainersReady"), "{tag}");
    }
}

#[test]
fn a_delay_is_not_cut_short_by_a_start_within_a_second() {
    let mut pod = pod("slow-1s");
    let (_, wake) =
        run(&mut pod, &Behaviours::default(), start() + SignedDuration::from_millis(900));
    assert_eq!(wake, Some(after(2)));
}

#[test]
fn a_pod_that_is_never_ready_runs_and_rests() {
    let (pod, wake) = running("v2-never-ready", &Behaviours::default());
    assert_eq!(wake, None);
    assert!(!is_true(&pod, "Ready"));
    let ready = condition(&pod, "Ready").unwrap();
    assert_eq!(ready["reason"], "ContainersNotReady");
    assert_eq!(ready["message"], "containers with unready status: [web]");
}

#[test]
fn a_crashing_pod_restarts_ever_more_slowly_and_is_never_ready() {
    let behaviours = Behaviours::default();
    let (mut pod, mut wake) = running("crash", &behaviours);
    let mut seen = Vec::new();
    for _ in 0..6 {
        let now = wake.unwrap();
        wake = run(&mut pod, &behaviours, now).1;
        let state = match container(&pod)["state"].get("waiting") {
            Some(waiting) => text(waiting, &["reason"]),
            None => "runs",
        };
        let elapsed = now.duration_since(start()).as_secs();
        seen.push((elapsed, count(container(&pod), &["restartCount"]), state.to_owned()));
        assert!(!is_true(&pod, "Ready"));
        assert_eq!(pod["status"]["phase"], "Running");
    }
    let row = |at, restarts, state: &str| (at, restarts, state.to_owned());
    let expected = [
        row(1, 1, "runs"),
        row(2, 1, "CrashLoopBackOff"),
        row(12, 2, "runs"),
        row(13, 2, "CrashLoopBackOff"),
        row(33, 3, "runs"),
        row(34, 3, "CrashLoopBackOff"),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn an_image_that_cannot_be_pulled_keeps_its_pod_pending() {
    let behaviours = Behaviours::default();
    let (mut pod, wake) = running("v2-pull-error", &behaviours);
    assert_eq!(pod["status"]["phase"], "Pending");
    assert_eq!(container(&pod)["state"]["waiting"]["reason"], "ErrImagePull");
    assert_eq!(run(&mut pod, &behaviours, wake.unwrap()), (1, None));
    assert_eq!(container(&pod)["state"]["waiting"]["reason"], "ImagePullBackOff");
}

#[test]
fn an_exact_image_overrides_its_tag_also_in_a_running_pod() {
    let mut behaviours = Behaviours::default();
    let (mut pod, _) = running("v2-never-ready", &behaviours);
    behaviours.set("web:v2-never-ready", Behaviour::Ready { after: SignedDuration::ZERO });
    run(&mut pod, &behaviours, after(60));
    assert!(is_true(&pod, "Ready"));
    behaviours.set("web:v2-never-ready", Behaviour::NeverReady);
    run(&mut pod, &behaviours, after(90));
    let ready = condition(&pod, "Ready").unwrap();
    assert_eq!(ready["status"], "False");
    assert_eq!(ready["lastTransitionTime"], "2026-01-01T00:01:30Z");
}

#[test]
fn the_tag_is_what_follows_the_last_path_segment_s_colon() {
    let behaviours = Behaviours::default();
    let at_once = Behaviour::Ready { after: SignedDuration::ZERO };
    assert_eq!(behaviours.of("crash.example:5000/crash/web"), at_once);
    assert_eq!(behaviours.of("registry.example:5000/web:never-ready-2"), Behaviour::NeverReady);
}

#[test]
fn a_readiness_gate_holds_the_pod_back_but_not_its_containers() {
    let behaviours = Behaviours::default();
    let mut pod = pod("v1");
    pod["spec"]["readinessGates"] = json!([{ "conditionType": "example.com/routed" }]);
    run(&mut pod, &behaviours, start());
    assert!(is_true(&pod, "ContainersReady") && !is_true(&pod, "Ready"));
    let mut conditions = pod["status"]["conditions"].as_array().unwrap().clone();
    conditions.push(json!({ "type": "example.com/routed", "status": "True" }));
    pod["status"]["conditions"] = conditions.into();
    run(&mut pod, &behaviours, after(9));
    assert!(is_true(&pod, "Ready"));
    assert!(is_true(&pod, "example.com/routed"), "a foreign condition stays");
}

#[test]
fn an_image_changed_in_place_starts_the_container_anew() {
    let behaviours = Behaviours::default();
    let (mut pod, _) = running("v1", &behaviours);
    pod["spec"]["containers"][0]["image"] = json!("web:slow-3s");
    let (_, wake) = run(&mut pod, &behaviours, after(10));
    assert!(!is_true(&pod, "Ready"));
    assert_eq!(wake, Some(after(13)));
    assert_eq!(container(&pod)["image"], "web:slow-3s");
}

#[test]
fn a_deleted_pod_goes_at_once_or_after_its_time_to_stop() {
    let (mut pod, _) = running("v1", &Behaviours::default());
    pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:01:00Z");
    pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    let at_once = decide(&pod, &Behaviours::default(), after(30));
    assert_eq!(at_once.write, Some(PodWrite::Delete));
    let slowly = Behaviours::default().stop_after(SignedDuration::from_secs(5));
    assert_eq!(decide(&pod, &slowly, after(30)), Next { write: None, wake: Some(after(35)) });
    assert_eq!(decide(&pod, &slowly, after(35)).write, Some(PodWrite::Delete));
    let too_slowly = Behaviours::default().stop_after(SignedDuration::from_hours(1));
    assert_eq!(decide(&pod, &too_slowly, after(30)).wake, Some(after(60)), "the grace is over");
}
