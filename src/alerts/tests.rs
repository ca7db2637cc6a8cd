//! What alerts ask of which release.

use serde_json::{Value, json};

use super::*;
use crate::api::status::ReleaseStatus;

/// The example of Alertmanager's documentation, with these alerts.
fn notice(alerts: Value) -> Notice {
    let body = json!({
        "version": "4",
        "groupKey": "{}:{alertname=\"HighErrors\"}",
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "sluice",
        "groupLabels": {"alertname": "HighErrors"},
        "commonLabels": {"alertname": "HighErrors"},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "alerts": alerts,
    });
    read(body.to_string().as_bytes()).unwrap()
}

fn alert(status: &str, labels: Value) -> Value {
    json!({"status": status, "labels": labels, "annotations": {"summary": "12% fail"},
        "startsAt": "2026-01-01T00:00:00Z", "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph", "fingerprint": "c0ffee"})
}

fn page() -> Value {
    json!({"alertname": "HighErrors", "severity": "page", "service": "web"})
}

fn rollout(alerts: Value, stage: &str) -> Rollout {
    let value = json!({
        "apiVersion": "sluice.dev/v1beta1", "kind": "Rollout", "metadata": {"name": "web"},
        "spec": {"workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "strategy": {}, "alerts": alerts},
    });
    let mut rollout: Rollout = serde_json::from_value(value).unwrap();
    let stage = serde_json::from_value(json!(stage)).unwrap();
    let release = ReleaseStatus { id: "r1".to_owned(), stage, ..ReleaseStatus::default() };
    rollout.status = Some(RolloutStatus { release: Some(release), ..RolloutStatus::default() });
    rollout
}

fn rule(action: Value) -> Value {
    json!({"matchLabels": {"service": "web", "severity": "page"}, "action": action})
}

#[test]
fn a_firing_alert_with_all_labels_rolls_the_release_back() {
    let rollout = rollout(json!([rule(json!("Rollback"))]), "Stepping");
    let asked = request(&rollout, &notice(json!([alert("firing", page())]))).unwrap();
    let by = "the alert HighErrors (severity=page): 12% fail".to_owned();
    let expected = Request {
        verb: RequestVerb::Abort,
        by: Some(by),
        release: Some("r1".to_owned()),
        alerts: vec![],
    };
    assert_eq!(asked, expected);
}

#[test]
fn other_labels_resolved_alerts_and_rollouts_without_a_release_are_left_alone() {
    let rules = || json!([rule(json!("Rollback"))]);
    let other = json!({"alertname": "X", "severity": "page", "service": "api"});
    for (rollout, alerts) in [
        (rollout(rules(), "Stepping"), json!([alert("resolved", page())])),
        (rollout(rules(), "Stepping"), json!([alert("firing", other)])),
        (rollout(rules(), "Stepping"), json!([])),
        (rollout(rules(), "RollingBack"), json!([alert("firing", page())])),
        (rollout(json!([]), "Stepping"), json!([alert("firing", page())])),
        (rollout(json!([{"matchLabels": {}}]), "Stepping"), json!([alert("firing", page())])),
    ] {
        assert_eq!(request(&rollout, &notice(alerts.clone())), None, "{alerts}");
    }
    let mut idle = rollout(rules(), "Stepping");
    idle.status.as_mut().unwrap().release = None;
    assert_eq!(request(&idle, &notice(json!([alert("firing", page())]))), None);
}

#[test]
fn the_gravest_of_several_rules_counts_and_the_same_wish_is_made_once() {
    let both = json!([rule(json!("Pause")), rule(json!("Rollback")), rule(json!("Pause"))]);
    let mut rollout = rollout(both, "Stepping");
    let fires = notice(json!([alert("firing", page()), alert("firing", page())]));
    let asked = request(&rollout, &fires).unwrap();
    assert_eq!(asked.verb, RequestVerb::Abort);
    rollout.status.as_mut().unwrap().request = Some(asked);
    assert_eq!(request(&rollout, &fires), None);
}

#[test]
fn of_several_alerts_and_rules_the_gravest_counts_whatever_their_order() {
    let rule = |name: &str, action| json!({"matchLabels": {"alertname": name}, "action": action});
    let rules = [rule("P", "Pause"), rule("I", "Isolate"), rule("R", "Rollback")];
    let fires = |name: &str| alert("firing", json!({"alertname": name}));
    let asked = |names: &[&str]| {
        let alerts: Vec<Value> = names.iter().map(|name| fires(name)).collect();
        let asked = request(&rollout(json!(rules), "Stepping"), &notice(json!(alerts))).unwrap();
        (asked.verb, asked.by.unwrap(), asked.alerts.len())
    };
    let by = |name: &str| format!("the alert {name}: 12% fail");
    for names in [["P", "I"], ["I", "P"]] {
        assert_eq!(asked(&names), (RequestVerb::Isolate, by("I"), 2), "{names:?}");
    }
    for names in [["P", "I", "R"], ["R", "I", "P"], ["I", "R", "P"]] {
        assert_eq!(asked(&names), (RequestVerb::Abort, by("R"), 0), "{names:?}");
    }
    let both = json!([{"matchLabels": {"service": "web"}, "action": "Isolate"},
        {"matchLabels": {"severity": "page"}, "action": "Pause"}]);
    let one = request(&rollout(both, "Stepping"), &notice(json!([alert("firing", page())])));
    assert_eq!(one.unwrap().verb, RequestVerb::Isolate, "of two rules for one alert");
}

#[test]
fn a_wish_gives_way_to_a_graver_one_alone() {
    use RequestVerb::{Abort, Approve, Isolate, Pause};
    for (held, action, then) in [
        (Pause, "Isolate", Some(Isolate)),
        (Isolate, "Rollback", Some(Abort)),
        (Approve, "Isolate", Some(Isolate)),
        (Isolate, "Isolate", None),
        (Isolate, "Pause", None),
        (Abort, "Isolate", None),
    ] {
        let mut rollout = rollout(json!([rule(json!(action))]), "Stepping");
        let asked = Request { verb: held, ..Request::default() };
        rollout.status.as_mut().unwrap().request = Some(asked);
        let asked = request(&rollout, &notice(json!([alert("firing", page())])));
        assert_eq!(asked.map(|asked| asked.verb), then, "{held:?} and {action}");
    }
}

#[test]
fn what_was_isolated_and_tried_again_is_not_isolated_by_the_same_alert_but_by_its_next_time() {
    let mut rollout = rollout(json!([rule(json!("Isolate"))]), "Stepping");
    let first = notice(json!([since("a", "T1")]));
    let asked = request(&rollout, &first).unwrap();
    assert_eq!(
        (asked.verb, &asked.alerts[..]),
        (RequestVerb::Isolate, &["isolate:a@T1".into()][..])
    );
    rollout.status.as_mut().unwrap().release.as_mut().unwrap().alerts = asked.alerts;
    assert_eq!(request(&rollout, &first), None);
    assert!(request(&rollout, &notice(json!([since("a", "T2")]))).is_some());
    // What only paused may isolate when the rule says so by now.
    rollout.status.as_mut().unwrap().release.as_mut().unwrap().alerts = vec!["a@T1".into()];
    assert!(request(&rollout, &first).is_some());
}

/// An alert with this fingerprint that fires since then.
fn since(fingerprint: &str, starts_at: &str) -> Value {
    let mut alert = alert("firing", page());
    alert["fingerprint"] = json!(fingerprint);
    alert["startsAt"] = json!(starts_at);
    alert
}

#[test]
fn an_approved_pause_is_not_repeated_by_the_same_alert_but_by_its_next_time() {
    let mut rollout = rollout(json!([rule(json!("Pause"))]), "Stepping");
    let first = [since("a", "T1"), since("b", "T1")];
    let asked = request(&rollout, &notice(json!(first))).unwrap();
    assert_eq!(
        (asked.verb, &asked.alerts[..]),
        (RequestVerb::Pause, &["a@T1".into(), "b@T1".into()][..])
    );
    // The controller takes the wish, a person approves: Alertmanager's repetition is nothing new.
    rollout.status.as_mut().unwrap().release.as_mut().unwrap().alerts = asked.alerts;
    assert_eq!(request(&rollout, &notice(json!(first))), None);
    assert_eq!(request(&rollout, &notice(json!([since("b", "T1")]))), None);
    let again = request(&rollout, &notice(json!([since("a", "T1"), since("a", "T2")]))).unwrap();
    assert_eq!(again.alerts, ["a@T2"]);
    // What only paused may roll back when the rule says so by now.
    rollout.spec.alerts[0].action = Some(OnFailure::Rollback);
    let asked = request(&rollout, &notice(json!(first))).unwrap();
    assert_eq!((asked.verb, asked.alerts), (RequestVerb::Abort, vec![]));
}

#[test]
fn a_page_during_the_watch_after_the_last_step_stops_the_release() {
    for action in ["Rollback", "Isolate", "Pause"] {
        let rollout = rollout(json!([rule(json!(action))]), "Finalising");
        assert!(request(&rollout, &notice(json!([alert("firing", page())]))).is_some(), "{action}");
    }
}

#[test]
fn a_pause_never_takes_the_place_of_a_rollback_that_is_asked_for() {
    let mut rollout = rollout(json!([rule(json!("Pause"))]), "Stepping");
    let asked = Request { verb: RequestVerb::Abort, ..Request::default() };
    rollout.status.as_mut().unwrap().request = Some(asked);
    assert_eq!(request(&rollout, &notice(json!([alert("firing", page())]))), None);
}

/// The answer of Prometheus 2.42 to `/api/v1/alerts`.
fn listed(state: &str, active_at: &str) -> String {
    json!({"status": "success", "data": {"alerts": [{"labels": page(), "state": state,
        "annotations": {"summary": "12% fail"}, "activeAt": active_at, "value": "1e+00"}]}})
    .to_string()
}

#[test]
fn what_prometheus_lists_as_firing_is_an_alert_and_what_is_pending_is_none() {
    let mut rollout = rollout(json!([rule(json!("Pause"))]), "Stepping");
    let at = |state: &str, active| read_prometheus(listed(state, active).as_bytes()).unwrap();
    assert_eq!(request(&rollout, &at("pending", "T1")), None);
    let asked = request(&rollout, &at("firing", "T1")).unwrap();
    assert_eq!(asked.by.as_deref(), Some("the alert HighErrors (severity=page): 12% fail"));
    rollout.status.as_mut().unwrap().release.as_mut().unwrap().alerts = asked.alerts;
    assert_eq!(request(&rollout, &at("firing", "T1")), None, "the labels are its name");
    assert!(request(&rollout, &at("firing", "T2")).is_some());
    for body in ["", "<html>", "[]", r#"{"status":"error"}"#, r#"{"status":"success"}"#] {
        assert!(read_prometheus(body.as_bytes()).is_err(), "{body}");
    }
    let error = r#"{"status":"error","data":{"alerts":[]}}"#;
    assert!(read_prometheus(error.as_bytes()).is_err());
}

#[test]
fn what_is_not_alertmanagers_is_refused() {
    for body in ["", "{}", "[]", r#"{"version":"4","alerts":[{}]}"#, r#"{"version":"3"}"#] {
        assert!(read(body.as_bytes()).is_err(), "{body}");
    }
}
