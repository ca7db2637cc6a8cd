//! Analyses beside a release: several in the background, again and again, and the watch after the
//! last step.

use jiff::SignedDuration;

use super::*;
use crate::api::AnalysisRun;

pub(super) fn templates(s: &mut Snapshot) {
    let spec = json!({"metrics": [{"name": "errors", "interval": "30s",
        "successCondition": "result[0] < 1", "provider": {"prometheus": {"query": "sum(x)"}}}]});
    s.templates.insert((false, "t".into()), serde_json::from_value(spec).unwrap());
}

fn canary(s: &mut Snapshot, fields: Value) {
    let mut spec = serde_json::to_value(&s.rollout.spec).unwrap();
    for (name, value) in fields.as_object().unwrap() {
        spec["strategy"]["canary"][name] = value.clone();
    }
    s.rollout.spec = serde_json::from_value(spec).unwrap();
    templates(s);
}

fn ask_t(more: Value) -> Value {
    let mut stanza = json!({"templates": [{"templateName": "t"}]});
    for (name, value) in more.as_object().unwrap() {
        stanza[name] = value.clone();
    }
    stanza
}

fn started(plan: &Plan) -> Vec<&AnalysisRun> {
    let runs = plan.actions.iter().filter_map(|a| match a {
        Action::StartRun(run) => Some(run.as_ref()),
        _ => None,
    });
    runs.collect()
}

fn names(plan: &Plan) -> Vec<String> {
    started(plan).iter().map(|run| run.metadata.name.clone().unwrap()).collect()
}

/// Keeps what a plan decided, its runs with this status.
fn kept(s: &mut Snapshot, plan: &Plan, run: &Value) {
    s.rollout.status = Some(plan.status.clone());
    for action in &plan.actions {
        if let Action::Gate { workload, entry: Some(entry) } = action {
            let deployments = BTreeMap::from([(workload.clone(), (**entry).clone())]);
            let account = Some("sluice".to_owned());
            s.gate =
                Some(GateView { spec: GateSpec { account, deployments, ..GateSpec::default() } });
        }
    }
    for started in started(plan) {
        let mut started = started.clone();
        started.status = Some(serde_json::from_value(run.clone()).unwrap());
        s.runs.insert(started.metadata.name.clone().unwrap(), started);
    }
}

fn at(s: &Snapshot, seconds: i64) -> Plan {
    let made = plan(s, NOW + SignedDuration::from_secs(seconds));
    assert_eq!(check(s, &made), [], "{made:#?}");
    made
}

fn running() -> Value {
    json!({"phase": "Running", "verdict": "Continue", "reason": "measuring"})
}

fn passed(seconds: i64) -> Value {
    let at = NOW + SignedDuration::from_secs(seconds);
    json!({"phase": "Successful", "verdict": "Pass", "completedAt": at.to_string()})
}

fn failed() -> Value {
    json!({"phase": "Failed", "verdict": "Fail", "reason": "errors: 0.5 > 0.01"})
}

/// Step 1 waits for approval with its two pods.
fn waiting_at_step_1() -> Snapshot {
    released(Stage::Stepping, StepState::StepPaused, 2, 8)
}

#[test]
fn several_background_analyses_run_at_once_each_from_its_first_step() {
    let mut s = waiting_at_step_1();
    let named = |name: &str, step: i32| ask_t(json!({"name": name, "startingStep": step}));
    let more = [named("slow", 1), named("late", 2)];
    canary(&mut s, json!({"analysis": ask_t(json!({})), "backgroundAnalyses": more}));
    let made = at(&s, 0);
    assert_eq!(names(&made), ["web-r1-bg-1", "web-r1-bg-slow-1"]);
    kept(&mut s, &made, &running());
    let made = at(&s, 1);
    assert!(started(&made).is_empty(), "{made:#?}");
    let scopes: Vec<_> = made.status.verdicts.iter().map(|v| v.scope.as_str()).collect();
    assert_eq!(scopes, ["Background", "Background/slow"]);
    let run = s.runs.get_mut("web-r1-bg-slow-1").unwrap();
    run.status = Some(serde_json::from_value(failed()).unwrap());
    let made = at(&s, 2);
    assert_eq!(made.status.release.unwrap().stage, Stage::RollingBack);
    assert_eq!(made.status.rejected.unwrap().reason, "background slow: errors: 0.5 > 0.01");
}

/// A release whose step is done, and its background analysis of one metric with this result.
fn watched(steps: &Value, metric: &Value, result: &Value, missing: Option<&str>) -> Snapshot {
    let mut s = released(Stage::Stepping, StepState::StepReady, 2, 8);
    canary(&mut s, json!({"analysis": ask_t(json!({})), "steps": steps}));
    let made = at(&s, 0);
    let status = json!({"phase": "Running", "startedAt": "2026-01-01T00:00:00Z",
        "missing": missing, "metricResults": [result]});
    kept(&mut s, &made, &status);
    let spec = &mut s.runs.get_mut("web-r1-bg-1").unwrap().spec;
    let mut own = serde_json::to_value(&spec.metrics[0]).unwrap();
    for (key, value) in metric.as_object().unwrap() {
        own[key] = value.clone();
    }
    spec.metrics[0] = serde_json::from_value(own).unwrap();
    s
}

fn ends(plan: &Plan) -> bool {
    events(plan).contains(&"StepCompleted")
}

#[test]
fn no_step_ends_while_a_background_analysis_gets_no_data_unless_a_person_skips() {
    let missing = "waiting for data: errors: provider unreachable";
    let steps = json!([{"replicas": "20%"}, {"replicas": "100%"}]);
    let looks = |consecutive: i32, advisory: bool| {
        let measured = json!([{"phase": "Error", "finishedAt": "2026-01-01T00:00:00Z"}]);
        let result = json!({"name": "errors", "phase": "Running",
            "consecutiveError": consecutive, "measurements": measured});
        watched(&steps, &json!({"advisory": advisory}), &result, Some(missing))
    };
    let mut s = looks(2, false);
    let made = at(&s, 1);
    let words =
        format!("step 1: the background analysis web-r1-bg-1: {missing} (kubectl sluice skip");
    assert!(waiting(&made).starts_with(&words), "{made:#?}");
    assert!(!ends(&made));
    ask(&mut s, RequestVerb::Skip);
    assert!(ends(&at(&s, 2)));
    // A comparison that lacks proof, and a metric that nobody waits for, hold nothing.
    for (consecutive, advisory) in [(0, false), (2, true)] {
        let made = at(&looks(consecutive, advisory), 1);
        assert!(ends(&made), "{advisory}: {made:#?}");
    }
}

#[test]
fn an_approval_of_a_step_whose_time_ran_out_at_its_end_goes_on_at_once() {
    let steps = json!([{"replicas": "20%", "timeout": "10m"}, {"replicas": "100%"}]);
    let measured = json!([{"phase": "Error", "finishedAt": "2026-01-01T00:00:00Z"}]);
    let result = json!({"name": "errors", "phase": "Running", "consecutiveError": 2,
        "measurements": measured});
    let mut s = watched(&steps, &json!({}), &result, Some("waiting for data: errors: nothing"));
    // It rests.
    view_of(&mut s).fields.max_surge = Some(IntOrString::Int(0));
    for second in [1, 700] {
        let made = at(&s, second);
        assert!(!ends(&made), "{made:#?}");
        follow(&mut s, made);
    }
    assert!(release(&mut s).held.as_ref().unwrap().contains("its timeout of 10m is over"));
    ask(&mut s, RequestVerb::Approve);
    let made = at(&s, 710);
    assert!(ends(&made), "{made:#?}");
    assert!(!made.status.release.unwrap().skip, "the next step is done in full");
}

#[test]
fn no_step_ends_before_the_background_has_answered_what_was_due() {
    let two = json!([{"replicas": "20%"}, {"replicas": "100%"}]);
    let one = json!([{"replicas": "20%", "pause": {"duration": 1}}]);
    let measured = |at: &str| json!([{"phase": "Successful", "finishedAt": at}]);
    let now = "2026-01-01T00:00:00Z";
    let ago = "2025-12-31T23:59:29Z";
    let nothing = json!({});
    let delayed = json!({"initialDelay": "1m"});
    let once = json!({"count": 1});
    // The steps, the metric, what was measured, and whether the step ends a second later.
    let rows = [
        (&two, &nothing, json!([]), false),
        (&two, &nothing, measured(now), true),
        // Due after 30 s, and not answered.
        (&two, &nothing, measured(ago), false),
        (&two, &once, measured(ago), true),
        (&two, &delayed, json!([]), true),
        // No step comes after in which it would be measured.
        (&one, &delayed, json!([]), false),
        (&one, &delayed, measured(now), true),
        // A Job that runs is watched by its own limits.
        (&two, &nothing, json!([{"phase": "Running", "startedAt": ago}]), true),
        (&two, &json!({"advisory": true}), json!([]), true),
    ];
    for (steps, metric, measurements, so) in rows {
        let result = json!({"name": "errors", "phase": "Running", "count": 1,
            "measurements": measurements});
        let made = at(&watched(steps, metric, &result, None), 1);
        assert_eq!(ends(&made), so, "{metric} {measurements}: {made:#?}");
        assert!(so || waiting(&made).contains("the background analysis web-r1-bg-1: errors: no "));
    }
}

#[test]
fn a_background_analysis_that_begins_with_the_step_is_waited_for_before_the_step_ends() {
    let mut s = released(Stage::Stepping, StepState::StepTrafficRouting, 2, 8);
    let steps = json!([{"replicas": "20%", "pause": {"duration": 0}}, {"replicas": "100%"}]);
    canary(&mut s, json!({"analysis": ask_t(json!({})), "steps": steps}));
    let made = at(&s, 0);
    assert_eq!(names(&made), ["web-r1-bg-1"]);
    assert!(!ends(&made), "{made:#?}");
    assert_eq!(waiting(&made), "the analysis web-r1-bg-1 to start");
    // The controller of runs has not seen it yet.
    kept(&mut s, &made, &json!({}));
    let made = at(&s, 0);
    assert!(!ends(&made) && started(&made).is_empty(), "{made:#?}");
    assert!(waiting(&made).contains("web-r1-bg-1: it has not begun"), "{made:#?}");
}

#[test]
fn a_steps_analysis_that_would_never_end_is_refused_with_the_metric_and_the_remedy() {
    let with = |step: Value, stanza: Value| {
        let mut s = released(Stage::Stepping, StepState::StepMetricsAnalysis, 2, 8);
        let mut first = json!({"replicas": "20%", "analysis": ask_t(stanza)});
        for (name, value) in step.as_object().unwrap() {
            first[name] = value.clone();
        }
        canary(&mut s, json!({"steps": [first, {"replicas": "100%"}]}));
        at(&s, 0)
    };
    let made = with(json!({}), json!({}));
    assert_eq!(started(&made).len(), 0);
    let words = "the step would never end: its metric \"errors\" has no count";
    assert!(waiting(&made).starts_with(words), "{}", waiting(&made));
    assert!(events(&made).contains(&"AnalysisUnusable"));
    for (step, stanza) in
        [(json!({"timeout": "1h"}), json!({})), (json!({}), json!({"timeout": "1h"}))]
    {
        assert_eq!(started(&with(step.clone(), stanza)).len(), 1, "{step}");
    }
}

/// Templates whose metrics are these, each of 30 s; `None`: without a count.
fn asked(s: &mut Snapshot, metrics: &[(&str, Option<i32>)], more: Value) {
    let metric = |(name, count): &(&str, Option<i32>)| {
        json!({"name": name, "interval": "30s", "count": count, "successCondition": "result[0] < 1",
            "provider": {"prometheus": {"query": "sum(x)"}}})
    };
    let mut spec = json!({"metrics": metrics.iter().map(metric).collect::<Vec<_>>()});
    for (name, value) in more.as_object().unwrap() {
        spec[name] = value.clone();
    }
    s.templates.insert((false, "t".into()), serde_json::from_value(spec).unwrap());
}

#[test]
fn a_step_waits_for_no_endless_metric_and_a_rule_or_a_dry_run_changes_nothing_of_that() {
    let dry = json!({"dryRun": [{"metricName": "trial"}]});
    let rule = json!({"decide": {"atLeast": 1}});
    let (errors, trial) = (("errors", Some(5)), ("trial", None));
    for (metrics, more, starts) in [
        (&[errors, trial][..], &json!({}), false),
        (&[errors, trial], &rule, false),
        (&[errors, trial], &dry, true),
        (&[trial], &dry, false),
    ] {
        let mut s = released(Stage::Stepping, StepState::StepMetricsAnalysis, 2, 8);
        let first = json!({"replicas": "20%", "analysis": ask_t(json!({}))});
        canary(&mut s, json!({"steps": [first, {"replicas": "100%"}]}));
        asked(&mut s, metrics, more.clone());
        let made = at(&s, 0);
        assert_eq!(started(&made).len() == 1, starts, "{metrics:?} {more}");
        let refused = waiting(&made).starts_with("the step would never end: its metric \"trial\"");
        assert_eq!(refused, !starts, "{metrics:?} {more}: {}", waiting(&made));
    }
}

#[test]
fn a_background_analysis_that_has_passed_begins_again_a_minute_later() {
    let mut s = waiting_at_step_1();
    canary(&mut s, json!({"analysis": ask_t(json!({}))}));
    let made = at(&s, 0);
    kept(&mut s, &made, &passed(100));
    let made = at(&s, 110);
    assert!(started(&made).is_empty());
    assert_eq!(made.wake, Some(NOW + SignedDuration::from_secs(160)));
    kept(&mut s, &made, &running());
    let made = at(&s, 160);
    assert_eq!(names(&made), ["web-r1-bg-1-2"]);
    kept(&mut s, &made, &passed(200));
    let made = at(&s, 201);
    assert_eq!(
        made.status.verdicts.len(),
        1,
        "the status stays bounded: {:?}",
        made.status.verdicts
    );
    kept(&mut s, &made, &running());
    s.runs.clear();
    assert_eq!(names(&at(&s, 300)), ["web-r1-bg-1-3"], "the old runs may be gone");
}

#[test]
fn a_run_carries_what_its_stanza_says() {
    let mut s = waiting_at_step_1();
    let stanza = ask_t(json!({
        "dryRun": [{"metricName": "errors"}],
        "measurementRetention": [{"metricName": ".*", "limit": 3}],
        "analysisRunMetadata": {"labels": {"team": "shop"}, "annotations": {"why": "x"}},
    }));
    canary(&mut s, json!({"analysis": stanza}));
    let made = at(&s, 0);
    let run = started(&made)[0];
    assert_eq!(run.metadata.labels.as_ref().unwrap()["team"], "shop");
    assert_eq!(run.metadata.annotations.as_ref().unwrap()["why"], "x");
    assert_eq!((run.spec.dry_run.len(), run.spec.measurement_retention[0].limit), (1, 3));
    assert!(run.spec.ttl_strategy.is_some());
}

#[test]
fn the_analyses_of_a_step_that_is_left_are_ended() {
    for verb in [RequestVerb::Skip, RequestVerb::Retry, RequestVerb::Restart] {
        let mut s = released(Stage::Stepping, StepState::StepMetricsAnalysis, 2, 8);
        let step = json!({"replicas": "20%", "timeout": "1h", "analysis": ask_t(json!({}))});
        let steps = json!([step, {"replicas": "50%", "pause": {}}, {"replicas": "100%"}]);
        canary(&mut s, json!({"analysis": ask_t(json!({})), "steps": steps}));
        for name in ["web-r1-bg-1", "web-r1-s1-1"] {
            let made = at(&s, 0);
            assert_eq!(names(&made), [name]);
            kept(&mut s, &made, &running());
        }
        s.runs.get_mut("web-r1-bg-1").unwrap().status = serde_json::from_value(passed(0)).ok();
        ask(&mut s, verb);
        let made = at(&s, 1);
        let ended = made.actions.iter().filter_map(|action| match action {
            Action::EndRun { name, .. } => Some(name.as_str()),
            _ => None,
        });
        assert_eq!(ended.collect::<Vec<_>>(), ["web-r1-s1-1"], "{verb:?}");
    }
    let mut s = waiting_at_step_1();
    canary(&mut s, json!({"analysis": ask_t(json!({}))}));
    let made = at(&s, 0);
    kept(&mut s, &made, &running());
    ask(&mut s, RequestVerb::Retry);
    let ends = |a: &Action| matches!(a, Action::EndRun { name, .. } if name == "web-r1-bg-1");
    assert!(at(&s, 1).actions.iter().any(ends), "the next attempt has a watch of its own");
}

/// Every pod is new and the fields are the user's; only the last words are missing.
fn finalised(bake: Value) -> Snapshot {
    let mut s = released(Stage::Finalising, StepState::Completed, 10, 0);
    let view = s.workload.as_mut().unwrap();
    view.fields = user();
    canary(&mut s, json!({"bake": bake}));
    s
}

#[test]
fn without_an_analysis_the_watch_lasts_its_time_and_then_the_release_ends() {
    let mut s = finalised(json!({"duration": "10m"}));
    let made = at(&s, 0);
    assert!(events(&made).contains(&"Baking"), "{made:#?}");
    assert!(waiting(&made).starts_with("the new version to be watched until "), "{made:#?}");
    assert!(!made.actions.iter().any(|a| matches!(a, Action::Workload { .. })));
    kept(&mut s, &made, &running());
    let made = at(&s, 599);
    assert_eq!(made.wake, Some(NOW + SignedDuration::from_secs(600)));
    assert!(events(&made).is_empty());
    let made = at(&s, 600);
    assert!(events(&made).contains(&"Promoted"), "{made:#?}");
    assert!(made.status.release.is_none());
}

#[test]
fn what_fails_in_the_watch_goes_back_by_itself() {
    // Isolating goes back: no stable pod is left.
    for on_failure in ["Rollback", "Isolate", "Pause"] {
        let mut s = finalised(json!({"duration": "10m", "analysis": ask_t(json!({}))}));
        s.rollout.spec.on_failure = serde_json::from_value(json!(on_failure)).unwrap();
        let made = at(&s, 0);
        assert_eq!(names(&made), ["web-r1-bake-1"]);
        kept(&mut s, &made, &failed());
        let made = at(&s, 30);
        if on_failure == "Pause" {
            assert!(waiting(&made).starts_with("after the last step: errors"), "{made:#?}");
            kept(&mut s, &made, &running());
            ask(&mut s, RequestVerb::Approve);
            let made = at(&s, 40);
            assert!(waiting(&made).starts_with("the new version to be watched"), "{made:#?}");
            continue;
        }
        assert_eq!(made.status.release.as_ref().unwrap().stage, Stage::RollingBack);
        let reason = &made.status.rejected.as_ref().unwrap().reason;
        assert_eq!(reason, "after the last step: errors: 0.5 > 0.01", "{on_failure}");
        let back = made.actions.iter().any(|a| matches!(a, Action::Workload { .. }));
        assert!(back, "the stable template is put back: {made:#?}");
    }
}

#[test]
fn an_endless_analysis_is_ended_with_the_watch_and_then_decides() {
    let mut s = finalised(json!({"duration": "10m", "analysis": ask_t(json!({}))}));
    let made = at(&s, 0);
    kept(&mut s, &made, &running());
    assert!(!at(&s, 599).actions.iter().any(|a| matches!(a, Action::EndRun { .. })));
    let made = at(&s, 600);
    assert!(made.actions.iter().any(|a| matches!(a, Action::EndRun { .. })), "{made:#?}");
    assert!(made.status.release.is_some());
    kept(&mut s, &made, &running());
    let run = s.runs.get_mut("web-r1-bake-1").unwrap();
    run.status = Some(serde_json::from_value(passed(601)).unwrap());
    assert!(events(&at(&s, 602)).contains(&"Promoted"));
}

#[test]
fn with_the_watch_ends_what_goes_on_for_ever_and_what_has_a_count_is_waited_for() {
    let dry = json!({"dryRun": [{"metricName": "trial"}]});
    let done = json!([{"name": "errors", "phase": "Successful"}]);
    let (errors, trial) = (("errors", Some(50)), ("trial", None));
    for (metrics, more, results, ends) in [
        (&[errors, trial][..], &json!({}), json!([]), false),
        (&[errors, trial], &json!({}), done, true),
        (&[trial], &dry, json!([]), true),
    ] {
        let mut s = finalised(json!({"duration": "10m", "analysis": ask_t(json!({}))}));
        asked(&mut s, metrics, more.clone());
        let made = at(&s, 0);
        let mut run = running();
        run["metricResults"] = results;
        kept(&mut s, &made, &run);
        let made = at(&s, 600);
        let ended = made.actions.iter().any(|a| matches!(a, Action::EndRun { .. }));
        assert_eq!(ended, ends, "{metrics:?} {more}: {made:#?}");
    }
}

#[test]
fn a_newer_template_ends_the_watch_and_the_stable_one_goes_back() {
    let bake = || json!({"duration": "10m"});
    let mut s = finalised(bake());
    let made = at(&s, 0);
    kept(&mut s, &made, &running());
    let mut newer = s.clone();
    let mut view = workload("v3", vec![set("v1", 0, 0), set("v2", 10, 10)]);
    view.fields.paused = true;
    newer.workload = Some(view);
    let made = at(&newer, 5);
    assert!(events(&made).contains(&"Promoted"), "{made:#?}");
    assert!(made.status.release.is_none());

    let mut undone = s.clone();
    undone.workload = Some(workload("v1", vec![set("v1", 0, 0), set("v2", 10, 10)]));
    let made = at(&undone, 5);
    assert_eq!(made.status.release.as_ref().unwrap().stage, Stage::RollingBack, "{made:#?}");

    for verb in [RequestVerb::PromoteFull, RequestVerb::Skip] {
        let mut asked = s.clone();
        ask(&mut asked, verb);
        assert!(events(&at(&asked, 5)).contains(&"Promoted"), "{verb:?}");
    }
    ask(&mut s, RequestVerb::Abort);
    assert_eq!(at(&s, 5).status.release.unwrap().stage, Stage::RollingBack);
}

#[test]
fn a_page_that_pauses_the_watch_holds_its_end_until_somebody_approves() {
    let mut s = finalised(json!({"duration": "10m"}));
    let made = at(&s, 0);
    kept(&mut s, &made, &running());
    let page = "the alert HighErrors (severity=page)";
    let alerts = vec!["c0ffee@2026-01-01T00:00:00Z".to_owned()];
    status(&mut s).request = Some(Request {
        verb: RequestVerb::Pause,
        by: Some(page.to_owned()),
        release: Some("r1".into()),
        alerts: alerts.clone(),
    });
    let made = at(&s, 5);
    assert_eq!(events(&made), ["Paused"]);
    let held = format!("paused by {page}: kubectl sluice approve, retry or abort");
    assert_eq!(waiting(&made), held);
    let release = made.status.release.as_ref().unwrap();
    assert_eq!((release.stage, &release.alerts), (Stage::Finalising, &alerts));
    assert!(!made.actions.iter().any(|a| matches!(a, Action::Workload { .. })), "{made:#?}");
    kept(&mut s, &made, &running());
    assert_eq!(waiting(&at(&s, 700)), held, "its time alone does not end it");
    ask(&mut s, RequestVerb::Approve);
    let made = at(&s, 700);
    assert_eq!(events(&made), ["Resumed", "Promoted"]);
}

#[test]
fn a_page_that_pauses_the_last_pods_stops_them_and_their_deadline() {
    let mut s = released(Stage::Finalising, StepState::Completed, 6, 4);
    ask(&mut s, RequestVerb::Pause);
    let made = at(&s, 0);
    assert_eq!(waiting(&made), "paused by ann: kubectl sluice approve, retry or abort");
    kept(&mut s, &made, &running());
    let made = at(&s, 5_000);
    assert_eq!(made.status.release.as_ref().unwrap().stage, Stage::Finalising, "{made:#?}");
    kept(&mut s, &made, &running());
    ask(&mut s, RequestVerb::Approve);
    let made = at(&s, 5_001);
    let release = made.status.release.as_ref().unwrap();
    assert_eq!((release.stage, &release.held), (Stage::Finalising, &None), "{made:#?}");
}

#[test]
fn the_alerts_that_a_release_remembers_are_bounded() {
    let mut s = waiting_at_step_1();
    for round in 0..3 {
        let alerts = (0..40).map(|i| format!("{round}-{i}")).collect();
        let verb = RequestVerb::Pause;
        status(&mut s).request = Some(Request { verb, alerts, ..Request::default() });
        let made = at(&s, round);
        kept(&mut s, &made, &running());
    }
    let held = &s.rollout.status.as_ref().unwrap().release.as_ref().unwrap().alerts;
    assert_eq!((held.len(), held.last().unwrap().as_str()), (64, "2-39"));
}
