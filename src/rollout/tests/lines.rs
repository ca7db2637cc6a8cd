//! What a new analysis run is told of those before it.

use super::*;
use crate::api::analysis_run::RunRelease;
use crate::api::{AnalysisRun, AnalysisTemplateSpec};

/// The step's analysis of a release from v1 to v2 is about to start; a background one has started.
fn about_to_start(other_steps: &Value) -> Snapshot {
    let mut s = released(Stage::Stepping, StepState::StepMetricsAnalysis, 2, 8);
    let errors = json!({"templates": [{"templateName": "errors"}]});
    let mut steps = vec![json!({"replicas": "20%", "analysis": errors})];
    steps.extend(other_steps.as_array().unwrap().iter().cloned());
    steps.push(json!({"replicas": "100%"}));
    let mut extra = json!({"strategy": {"canary": {"steps": steps, "analysis": errors}}});
    extra["strategy"]["canary"]["analysis"]["startingStep"] = json!(9);
    s.rollout.spec = rollout(&extra).spec;
    for (name, query) in [("errors", "e_total"), ("latency", "l_total")] {
        let compare = json!({"ratio": {"bad": query, "total": "all_total"}});
        let spec = json!({"metrics": [{"name": name, "compare": compare}]});
        let spec: AnalysisTemplateSpec = serde_json::from_value(spec).unwrap();
        s.templates.insert((false, name.to_owned()), spec);
    }
    s
}

/// The run that is started.
fn started(s: &Snapshot) -> AnalysisRun {
    let made = plan_of(s);
    let run = made.actions.iter().find_map(|action| match action {
        Action::StartRun(run) => Some((**run).clone()),
        _ => None,
    });
    run.unwrap_or_else(|| panic!("no run is started: {made:#?}"))
}

/// It is there, has started and ended like this; the release goes on as `id`, try `attempt`.
fn ended(s: &mut Snapshot, run: AnalysisRun, second: i64, status: Value, then: (&str, i32)) {
    let (mut run, name) = (run.clone(), run.metadata.name.unwrap());
    let mut value = status;
    let at = NOW + jiff::SignedDuration::from_secs(second);
    value["startedAt"] = json!(at.to_string());
    run.status = Some(serde_json::from_value(value).unwrap());
    s.runs.insert(name, run);
    let r = release(s);
    (r.id, r.attempt) = (then.0.to_owned(), then.1);
}

fn told(s: &Snapshot) -> (Option<String>, Option<i32>, Option<i32>) {
    let RunRelease { continues, lines, tries, .. } = started(s).spec.release.unwrap();
    (continues, lines, tries)
}

#[test]
fn a_run_goes_on_with_the_last_one_of_its_line_whatever_the_release_is_called() {
    let mut s = about_to_start(&json!([]));
    let first = started(&s);
    assert_eq!(told(&s), (None, Some(2), None), "the steps and the background divide the risk");
    let passed = json!({"phase": "Successful", "verdict": "Pass", "reason": ""});
    ended(&mut s, first.clone(), 0, passed.clone(), ("r1", 2));
    assert_eq!(told(&s).0, first.metadata.name, "another attempt");
    let second = started(&s);
    ended(&mut s, second.clone(), 60, passed.clone(), ("r7", 1));
    assert_eq!(told(&s).0, second.metadata.name, "another release of the same two versions");
    let mut background = second.clone();
    background.metadata.name = Some("watching".into());
    background.spec.release.as_mut().unwrap().scope = "Background".into();
    ended(&mut s, background, 120, passed.clone(), ("r7", 1));
    assert_eq!(told(&s).0, second.metadata.name, "a background analysis is a line of its own");
    let mut third_version = second.clone();
    third_version.metadata.name = Some("older".into());
    third_version.spec.release.as_mut().unwrap().stable = Some("v0".into());
    ended(&mut s, third_version, 180, passed, ("r7", 1));
    assert_eq!(told(&s).0, second.metadata.name, "evidence is about two versions");
}

#[test]
fn after_a_failure_the_next_try_begins_anew_and_an_inconclusive_one_is_gone_on_with() {
    let mut s = about_to_start(&json!([]));
    let first = started(&s);
    let doubt = json!({"phase": "Inconclusive", "verdict": "Inconclusive", "reason": "no data"});
    ended(&mut s, first.clone(), 0, doubt, ("r1", 2));
    assert_eq!(told(&s), (first.metadata.name, Some(2), None));
    let failed = |metric: &str| {
        json!({"phase": "Failed", "verdict": "Fail", "reason": "errors: 3 times",
               "metricResults": [{"name": metric, "phase": "Failed"}]})
    };
    let second = started(&s);
    ended(&mut s, second, 60, failed("errors"), ("r2", 1));
    assert_eq!(told(&s), (None, Some(2), Some(2)));
    let third = started(&s);
    ended(&mut s, third, 120, failed("errors"), ("r3", 1));
    assert_eq!(told(&s), (None, Some(2), Some(3)));
}

#[test]
fn steps_with_other_metrics_are_another_line_and_plain_metrics_are_none() {
    let other = json!([{"replicas": "50%", "analysis": {"templates": [{"templateName": "latency"}]}},
        {"replicas": "70%", "analysis": {"templates": [{"templateName": "errors"}]}}]);
    let mut s = about_to_start(&other);
    assert_eq!(told(&s).1, Some(3));
    let plain = json!({"metrics": [{"name": "errors", "successCondition": "result[0] < 1",
        "provider": {"prometheus": {"query": "sum(x)"}}}]});
    s.templates.insert((false, "errors".to_owned()), serde_json::from_value(plain).unwrap());
    assert_eq!(told(&s), (None, None, None));
}

/// Runs that have passed used to be deleted after a day, and a longer release began its evidence anew.
#[test]
fn the_last_run_of_each_line_is_needed_as_long_as_its_release_is_under_way() {
    let mut s = about_to_start(&json!([]));
    let passed = json!({"phase": "Successful", "verdict": "Pass", "reason": ""});
    let first = started(&s);
    ended(&mut s, first.clone(), 0, passed.clone(), ("r1", 2));
    release(&mut s).canary = first.spec.release.as_ref().unwrap().canary.clone();
    let needed = |s: &Snapshot, run: &AnalysisRun| {
        let release = s.rollout.status.as_ref().unwrap().release.as_ref().unwrap();
        let name = run.metadata.name.as_ref().unwrap();
        crate::rollout::is_needed(release, &s.runs[name], s.runs.values())
    };
    assert!(needed(&s, &first));
    let second = started(&s);
    s.runs.insert(second.metadata.name.clone().unwrap(), second.clone());
    assert!(needed(&s, &first), "the next one has not taken the evidence yet");
    ended(&mut s, second.clone(), 60, passed.clone(), ("r1", 3));
    assert!(needed(&s, &second) && !needed(&s, &first), "the evidence is in the last one");
    let mut background = second.clone();
    background.metadata.name = Some("watching".into());
    background.spec.release.as_mut().unwrap().scope = "Background".into();
    ended(&mut s, background.clone(), 120, passed, ("r1", 3));
    assert!(needed(&s, &second) && needed(&s, &background), "each is the last of its line");
    release(&mut s).canary = Some("v3".into());
    assert!(!needed(&s, &second), "evidence is about two versions");
}
