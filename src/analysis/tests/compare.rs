//! A run that compares: what is asked for each arm, and what the answers make of the run.

use serde_json::json;

use super::*;
use crate::api::Verdict as Kind;
use crate::api::analysis_run::RunRelease;

fn errors() -> Value {
    json!({"ratio": {"bad": "http_requests_total{code=~\"5..\"}", "total": "http_requests_total"},
           "harmful": "50%"})
}

pub(super) fn comparing(metrics: &[(&str, Value)]) -> AnalysisRun {
    let metrics = metrics
        .iter()
        .map(|(name, compare)| json!({"name": name, "compare": compare}))
        .map(|metric| serde_json::from_value(metric).unwrap());
    let mut run = run_of(metrics.collect());
    run.spec.release = Some(RunRelease {
        rollout: "web".to_owned(),
        id: "r1".to_owned(),
        scope: "1".to_owned(),
        stable: Some("5d4b".to_owned()),
        canary: Some("7f9c".to_owned()),
        ..RunRelease::default()
    });
    run
}

/// Values by pod, as a provider gives a labelled vector.
fn by_pod(values: &[(&str, f64)]) -> Outcome {
    let series = |(pod, value): &(&str, f64)| json!({"labels": {"pod": pod}, "value": sample::number(*value)});
    match values {
        [] => Sample::Empty.into(),
        some => Sample::Json(some.iter().map(series).collect()).into(),
    }
}

/// One tick: 300 requests of the canary and 2,700 of the stable version, of which so many are bad.
fn tick(run: &mut AnalysisRun, number: i64, canary_bad: f64, stable_bad: f64) {
    let now = at(number * 15);
    let due = due(run, now);
    let ticks = number as f64 + 1.0;
    let grown = |pod, each: f64| by_pod(&[(pod, each * ticks)]);
    let answers: Vec<(String, Outcome)> = due
        .into_iter()
        .map(|key| {
            let outcome = match key.split_once('/').unwrap().1 {
                "canary/0" => grown("web-7f9c-a", canary_bad),
                "canary/1" => grown("web-7f9c-a", 300.0),
                "stable/0" => grown("web-5d4b-a", stable_bad),
                _ => grown("web-5d4b-a", 2_700.0),
            };
            (key, outcome)
        })
        .collect();
    // What the next process reads is what the API server keeps.
    let status = record_all(run, answers, now);
    run.status = serde_json::from_value(serde_json::to_value(status).unwrap()).unwrap();
}

fn ticks(run: &mut AnalysisRun, canary_bad: f64, stable_bad: f64) -> i64 {
    for number in 0..240 {
        tick(run, number, canary_bad, stable_bad);
        if phase(run) != AnalysisPhase::Running {
            return number;
        }
    }
    240
}

#[test]
fn every_part_is_asked_for_each_arm_with_its_pods_and_keeps_its_labels() {
    let run = comparing(&[("errors", errors()), ("latency", json!({"histogram": "x_bucket"}))]);
    let due = plan(&run, START).due;
    let asked: Vec<_> = due.iter().map(|q| (q.metric.as_str(), q.text.as_str())).collect();
    assert_eq!(
        asked,
        [
            (
                "errors/canary/0",
                "sum by (pod) (http_requests_total{code=~\"5..\",pod=~\".+-7f9c-.*\"})"
            ),
            ("errors/canary/1", "sum by (pod) (http_requests_total{pod=~\".+-7f9c-.*\"})"),
            (
                "errors/stable/0",
                "sum by (pod) (http_requests_total{code=~\"5..\",pod=~\".+-5d4b-.*\"})"
            ),
            ("errors/stable/1", "sum by (pod) (http_requests_total{pod=~\".+-5d4b-.*\"})"),
            ("latency/canary/0", "sum by (pod, le) (x_bucket{pod=~\".+-7f9c-.*\"})"),
            ("latency/stable/0", "sum by (pod, le) (x_bucket{pod=~\".+-5d4b-.*\"})"),
        ]
    );
    assert!(due.iter().all(|query| query.labelled));
}

#[test]
fn arms_are_told_apart_by_the_label_that_the_template_names() {
    let mut compare = errors();
    compare["arms"] =
        json!({"label": "version", "canary": "{{args.new}}", "stable": "{{args.old}}"});
    let mut run = comparing(&[("errors", compare.clone())]);
    run.spec.args = serde_json::from_value(
        json!([{"name": "new", "value": "v2"}, {"name": "old", "value": "v1"}]),
    )
    .unwrap();
    let asked: Vec<_> = plan(&run, START).due.into_iter().map(|q| q.text).collect();
    assert_eq!(
        asked[1], "sum by (pod, instance) (http_requests_total{version=\"v2\"})",
        "per pod, or per scraped target where there is no pod"
    );
    assert_eq!(asked[3], "sum by (pod, instance) (http_requests_total{version=\"v1\"})");
    run.spec.args[1].value = Some("v2".to_owned());
    let refused = plan(&run, START).status.message.unwrap();
    assert!(refused.contains("both have version v2"), "{refused}");
    compare["podLabel"] = json!("kubernetes_pod_name");
    compare.as_object_mut().unwrap().remove("arms");
    let run = comparing(&[("errors", compare)]);
    assert_eq!(
        plan(&run, START).due[1].text,
        "sum by (kubernetes_pod_name) (http_requests_total{kubernetes_pod_name=~\".+-7f9c-.*\"})"
    );
}

#[test]
fn without_a_pod_the_gateways_restart_is_a_reset_of_its_own_and_loses_nothing() {
    let mut compare = errors();
    compare["arms"] = json!({"label": "version", "canary": "v2", "stable": "v1"});
    let mut run = comparing(&[("errors", compare)]);
    // Two gateways count both versions. One of them restarts at the third tick; their sum falls.
    let gateways = |each: f64, tick: i64| {
        let restarted = tick as f64 - if tick >= 3 { 3.0 } else { 0.0 };
        let series = |instance: &str, value: f64| json!({"labels": {"instance": instance}, "value": sample::number(value)});
        let (a, b) = (each * restarted, each * (tick as f64 + 1.0));
        Outcome::from(Sample::Json(json!([series("a:9901", a), series("b:9901", b)])))
    };
    for tick in 0..6 {
        let now = at(tick * 15);
        let answers: Vec<_> = due(&mut run, now)
            .into_iter()
            .map(|key| {
                let each = match key.split_once('/').unwrap().1 {
                    "canary/0" => 1.0,
                    "canary/1" => 100.0,
                    "stable/0" => 9.0,
                    _ => 900.0,
                };
                (key, gateways(each, tick))
            })
            .collect();
        run.status = Some(record_all(&run, answers, now));
    }
    let evidence = run.status.as_ref().unwrap().metric_results[0].evidence.clone().unwrap();
    let canary = evidence.canary.unwrap();
    assert_eq!(canary.pods, Some(2));
    // Five steps of gateway b; of gateway a two before its restart and two after it.
    assert_eq!(canary.counters["total"], 100.0 * (5.0 + 2.0 + 2.0));
    assert_eq!(evidence.stable.unwrap().counters["bad"], 9.0 * 9.0);
}

#[test]
fn series_without_pod_and_target_are_one_unit_for_each_version() {
    let mut compare = errors();
    compare["arms"] = json!({"label": "version", "canary": "v2", "stable": "v1"});
    let mut run = comparing(&[("errors", compare)]);
    for tick in 0..3 {
        let now = at(tick * 15);
        let nameless =
            |value: f64| Sample::Json(json!([{"labels": {}, "value": value.to_string()}]));
        let answers: Vec<_> = due(&mut run, now)
            .into_iter()
            .map(|key| (key, nameless(100.0 * (tick as f64 + 1.0)).into()))
            .collect();
        run.status = Some(record_all(&run, answers, now));
    }
    let result = &run.status.as_ref().unwrap().metric_results[0];
    assert_eq!(result.consecutive_error, 0, "{:?}", result.message);
    assert_eq!(result.evidence.as_ref().unwrap().canary.as_ref().unwrap().counters["total"], 200.0);
}

#[test]
fn three_times_the_errors_fail_the_run_with_the_numbers() {
    let mut run = comparing(&[("errors", errors())]);
    let last = ticks(&mut run, 9.0, 27.0);
    assert_eq!(phase(&run), AnalysisPhase::Failed);
    assert!(last <= 12, "{last} ticks");
    let Verdict::Fail { reason } = verdict(&run) else { panic!("{:?}", verdict(&run)) };
    assert!(reason.starts_with("errors: ") && !reason.contains("errors: errors"), "{reason}");
    assert!(reason.contains("(3%) against "), "{reason}");
    assert!(reason.contains("3 times, 95% interval "), "{reason}");
    let result = &run.status.as_ref().unwrap().metric_results[0];
    let evidence = result.evidence.as_ref().unwrap();
    assert!(evidence.log_e.unwrap() >= evidence.log_boundary.unwrap());
    assert_eq!(result.verdict, Some(Kind::Fail));
}

/// What the counters of [`tick`] are at an instant, or were over a range.
fn asked_of(query: &Query, canary_bad: f64, stable_bad: f64) -> Outcome {
    let (pod, each) = match query.metric.split_once('/').unwrap().1 {
        "canary/0" => ("web-7f9c-a", canary_bad),
        "canary/1" => ("web-7f9c-a", 300.0),
        "stable/0" => ("web-5d4b-a", stable_bad),
        _ => ("web-5d4b-a", 2_700.0),
    };
    let Ask::Prometheus { range: Some(range) } = &query.source.ask else { panic!("no range") };
    let (start, end) = (range.start.at(START), range.end.at(START));
    let mut points = Vec::new();
    let mut now = start;
    while now <= end {
        let ticks = now.duration_since(START).as_secs() as f64 / 15.0 + 1.0;
        points.push((now, each * ticks));
        now += range.step;
    }
    let labels = [("pod".to_owned(), pod.to_owned())].into();
    Sample::Lines(vec![Line { labels, points }]).into()
}

/// The numbers of a run after 12 ticks, of which `interrupted` may spoil some.
fn after_twelve(interrupted: impl Fn(&mut AnalysisRun, i64) -> bool) -> Value {
    let mut run = comparing(&[("errors", errors())]);
    for number in 0..12 {
        if interrupted(&mut run, number) {
            continue;
        }
        let queries = plan(&run, at(number * 15)).due;
        let Some(first) = queries.first() else { panic!("nothing due at tick {number}") };
        if first.source.ask == Ask::default() {
            tick(&mut run, number, 4.0, 27.0);
        } else {
            let answers = queries.iter().map(|q| (q.metric.clone(), asked_of(q, 4.0, 27.0)));
            let answers: Vec<_> = answers.collect();
            run.status = Some(record_all(&run, answers, at(number * 15)));
        }
    }
    let result = &run.status.as_ref().unwrap().metric_results[0];
    serde_json::to_value(result.evidence.as_ref().unwrap()).unwrap()
}

#[test]
fn a_lost_checkpoint_is_rebuilt_from_the_provider_with_the_same_numbers() {
    let whole = after_twelve(|_, _| false);
    assert_eq!(whole["canary"]["counters"]["total"], 300.0 * 11.0);
    for lost in [None, Some("{"), Some("{\"schema\": 99}")] {
        let found = after_twelve(|run, number| {
            if number == 8 {
                let status = run.status.as_mut().unwrap();
                status.metric_results[0].checkpoint = lost.map(str::to_owned);
            }
            false
        });
        assert_eq!(found, whole, "{lost:?}");
    }
}

#[test]
fn a_while_without_a_controller_is_asked_as_a_range_and_replayed() {
    let whole = after_twelve(|_, _| false);
    assert_eq!(after_twelve(|_, number| (3..9).contains(&number)), whole);
    // Two missed ticks are bridged by the next difference.
    let bridged = after_twelve(|_, number| (5..7).contains(&number));
    assert_eq!(bridged["canary"], whole["canary"]);
}

#[test]
fn the_status_keeps_how_the_evidence_went() {
    let mut run = comparing(&[("errors", errors())]);
    let last = ticks(&mut run, 9.0, 27.0);
    let result = &run.status.as_ref().unwrap().metric_results[0];
    let path = result.path.as_ref().unwrap();
    assert_eq!((path.log_e.len(), path.every), (last as usize + 1, 1));
    assert_eq!(path.log_boundary.last(), Some(&461));
    assert!(path.log_e.last().unwrap() >= &461 && path.log_e[0] < 100, "{path:?}");
    assert_eq!(path.to.as_ref().unwrap().0, at(last * 15));
}

#[test]
fn an_equal_canary_passes_and_until_then_the_run_says_what_is_missing() {
    let mut run = comparing(&[("errors", errors())]);
    for number in 0..4 {
        tick(&mut run, number, 3.0, 27.0);
    }
    let status = run.status.as_ref().unwrap();
    assert_eq!(
        (status.phase, status.verdict),
        (Some(AnalysisPhase::Running), Some(Kind::Continue))
    );
    let missing = status.metric_results[0].missing.as_deref().unwrap();
    assert!(missing.contains("not yet shown to change by less than 1.5 times"), "{missing}");
    assert!(status.metric_results[0].estimated_minutes.is_some());
    assert_eq!(status.estimated_minutes, status.metric_results[0].estimated_minutes);
    let outlook = status.metric_results[0].outlook.clone().unwrap();
    // 200 requests a second, 1 % bad, 10 % to the canary, against x1.5: 3.8 and 8.8 minutes by simulation.
    let near = |minutes: Option<f64>, wanted: f64| (minutes.unwrap() / wanted - 1.0).abs() < 0.15;
    assert!(near(outlook.pass_half, 3.8) && near(outlook.pass_most, 8.8), "{outlook:?}");
    assert!(outlook.fail_half < outlook.fail_most, "{outlook:?}");
    assert!(outlook.smallest_ratio.unwrap() < 1.6, "{outlook:?}");
    assert_eq!(outlook.design_effect, Some(1.0), "the ticks are all alike");
    let last = ticks(&mut run, 3.0, 27.0);
    assert_eq!(phase(&run), AnalysisPhase::Successful, "after {last} ticks");
    assert_eq!(verdict(&run), Verdict::Pass);
    assert_eq!(plan(&run, at(9_999)).due, []);
}

#[test]
fn comparisons_end_together_and_the_culprit_is_named() {
    let quiet = json!({"count": {"events": "restarts_total", "per": "http_requests_total"}});
    let mut run = comparing(&[("restarts", quiet), ("errors", errors())]);
    for number in 0..60 {
        let now = at(number * 15);
        let ticks = number as f64 + 1.0;
        let answers = due(&mut run, now).into_iter().map(|key| {
            let (metric, part) = key.split_once('/').unwrap();
            let bad = if metric == "errors" { 12.0 } else { 3.0 };
            let each = match part {
                "canary/0" => bad,
                "canary/1" => 300.0,
                "stable/0" => 27.0,
                _ => 2_700.0,
            };
            let pod = if part.starts_with("canary") { "web-7f9c-a" } else { "web-5d4b-a" };
            (key.clone(), by_pod(&[(pod, each * ticks)]))
        });
        let answers: Vec<_> = answers.collect();
        run.status = Some(record_all(&run, answers, now));
        if phase(&run) != AnalysisPhase::Running {
            break;
        }
    }
    assert_eq!(phase(&run), AnalysisPhase::Failed);
    let status = run.status.as_ref().unwrap();
    let phases: Vec<_> = status.metric_results.iter().map(|r| r.phase.unwrap()).collect();
    assert_eq!(phases, [AnalysisPhase::Inconclusive, AnalysisPhase::Failed]);
    assert!(verdict(&run).reason().starts_with("errors: "), "{}", verdict(&run).reason());
}

#[test]
fn without_data_it_waits_and_ended_early_it_cannot_tell() {
    let mut run = comparing(&[("errors", errors())]);
    for number in 0..6 {
        let now = at(number * 15);
        let answers = due(&mut run, now).into_iter().map(|key| (key, by_pod(&[])));
        let answers: Vec<_> = answers.collect();
        run.status = Some(record_all(&run, answers, now));
    }
    assert_eq!(phase(&run), AnalysisPhase::Running);
    let missing = run.status.as_ref().unwrap().metric_results[0].missing.clone().unwrap();
    assert!(missing.contains("no series of the canary pods"), "{missing}");
    run.spec.terminate = true;
    run.status = Some(plan(&run, at(100)).status);
    let Verdict::Inconclusive { reason } = verdict(&run) else { panic!("{:?}", verdict(&run)) };
    assert!(reason.contains("ended early: "), "{reason}");
}

#[test]
fn a_server_that_is_down_is_waited_for_and_an_answer_without_pods_is_an_error() {
    let mut run = comparing(&[("errors", errors())]);
    let asked = due(&mut run, START);
    let answers: Vec<_> = asked.iter().map(|key| (key.clone(), down())).collect();
    run.status = Some(record_all(&run, answers, START));
    assert_eq!(phase(&run), AnalysisPhase::Running);
    let status = run.status.as_ref().unwrap();
    assert_eq!(status.metric_results[0].consecutive_error, 1);
    assert!(status.missing.as_deref().unwrap().contains("connection refused"));
    assert_eq!(plan(&run, at(5)).due, [], "it backs off");
    let nameless = Sample::Json(json!([{"labels": {}, "value": "1"}]));
    let answers: Vec<_> = asked.iter().map(|key| (key.clone(), nameless.clone().into())).collect();
    run.status = Some(record_all(&run, answers, at(10)));
    let result = &run.status.as_ref().unwrap().metric_results[0];
    assert!(result.message.as_deref().unwrap().contains("has no label \"pod\""));
}

#[test]
fn what_cannot_be_compared_is_refused_with_its_path() {
    let refused =
        |run: &AnalysisRun| plan(run, START).status.message.unwrap_or_else(|| panic!("accepted"));
    let rated = comparing(&[("m", json!({"gauge": "rate(x[5m])"}))]);
    assert!(refused(&rated).contains("metrics[0].compare: "), "{}", refused(&rated));
    assert!(refused(&rated).contains("has rate()"), "{}", refused(&rated));
    let both = comparing(&[("m", json!({"gauge": "x", "histogram": "y"}))]);
    assert!(refused(&both).contains("exactly one of ratio"), "{}", refused(&both));
    let harmless = comparing(&[("m", json!({"gauge": "x", "harmful": "lots"}))]);
    assert!(refused(&harmless).contains("metrics[0].compare.harmful"), "{}", refused(&harmless));
    let mut alone = comparing(&[("m", errors())]);
    alone.spec.release = None;
    assert!(refused(&alone).contains("only a release has two arms"), "{}", refused(&alone));
    let mut unnamed = comparing(&[("m", errors())]);
    unnamed.spec.release.as_mut().unwrap().canary = None;
    assert!(refused(&unnamed).contains("nothing tells the arms apart"), "{}", refused(&unnamed));
    assert!(refused(&unnamed).contains("compare.arms"), "{}", refused(&unnamed));
}

#[test]
fn the_evidence_of_harm_goes_on_and_harmlessness_is_proven_in_each_run() {
    let mut run = comparing(&[("errors", errors())]);
    ticks(&mut run, 3.0, 27.0);
    assert_eq!(phase(&run), AnalysisPhase::Successful);
    let mut next = comparing(&[("errors", errors())]);
    next.status = Some(continued(&next, &run));
    let number = run.status.as_ref().unwrap().metric_results[0].count;
    tick(&mut next, i64::from(number) + 3, 3.0, 27.0);
    let of = |run: &AnalysisRun| run.status.as_ref().unwrap().metric_results[0].clone();
    let (old, new) = (of(&run).evidence.unwrap(), of(&next).evidence.unwrap());
    assert!(new.canary.unwrap().counters["total"] > old.canary.unwrap().counters["total"]);
    assert!((new.log_e.unwrap() - old.log_e.unwrap()).abs() < 1.5, "a tick changes little");
    assert!(new.log_e_pass.unwrap() < 1.0 && old.log_e_pass.unwrap() > 2.9);
    assert_eq!(phase(&next), AnalysisPhase::Running);
    let mut edited = comparing(&[("errors", json!({"count": {"events": "e_total"}}))]);
    edited.status = Some(continued(&edited, &run));
    assert_eq!(edited.status.unwrap().metric_results, [], "an edited comparison begins anew");
}

#[test]
fn lines_divide_the_risk_and_later_tries_have_less() {
    let height = |lines: Option<i32>, tries: Option<i32>| {
        let mut run = comparing(&[("errors", errors())]);
        let release = run.spec.release.as_mut().unwrap();
        (release.lines, release.tries) = (lines, tries);
        tick(&mut run, 0, 3.0, 27.0);
        run.status.unwrap().metric_results[0].evidence.as_ref().unwrap().log_boundary.unwrap()
    };
    let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
    assert!(near(height(None, None), 100_f64.ln()));
    assert!(near(height(Some(2), Some(1)), 200_f64.ln()));
    let squared = std::f64::consts::PI * std::f64::consts::PI;
    assert!(near(height(Some(2), Some(3)), (200.0 * squared * 9.0 / 6.0).ln()));
}

#[test]
fn in_the_background_a_good_canary_is_watched_until_the_release_ends_and_a_bad_one_fails() {
    let mut run = comparing(&[("errors", errors())]);
    run.spec.release.as_mut().unwrap().scope = "Background".to_owned();
    for number in 0..60 {
        tick(&mut run, number, 3.0, 27.0);
    }
    assert_eq!(phase(&run), AnalysisPhase::Running);
    let result = &run.status.as_ref().unwrap().metric_results[0];
    assert_eq!(result.missing, None, "it has been shown to be harmless");
    let mut ended = run.clone();
    ended.spec.terminate = true;
    ended.status = Some(plan(&ended, at(901)).status);
    assert_eq!(phase(&ended), AnalysisPhase::Successful);
}

/// It used to hold everybody up: no gauge without history ever passes.
#[test]
fn a_gauge_without_history_does_not_decide_unless_it_is_critical() {
    let gauge = json!({"gauge": "memory_bytes"});
    let play = |critical: bool| {
        let mut run = comparing(&[("memory", gauge.clone()), ("errors", errors())]);
        run.spec.metrics[0].critical = critical;
        for number in 0..40 {
            let now = at(number * 15);
            let ticks = number as f64 + 1.0;
            let answers = due(&mut run, now).into_iter().map(|key| {
                let each = match key.as_str() {
                    "errors/canary/0" => 3.0,
                    "errors/canary/1" => 300.0,
                    "errors/stable/0" => 27.0,
                    "errors/stable/1" => 2_700.0,
                    _ => 0.0,
                };
                let pod = if key.contains("canary") { "web-7f9c-a" } else { "web-5d4b-a" };
                let level = if each > 0.0 { each * ticks } else { 1e9 };
                (key.clone(), by_pod(&[(pod, level)]))
            });
            let answers: Vec<_> = answers.collect();
            run.status = Some(record_all(&run, answers, now));
        }
        run
    };
    let run = play(false);
    assert_eq!(verdict(&run), Verdict::Pass);
    let memory = &run.status.as_ref().unwrap().metric_results[0];
    assert_eq!(memory.phase, Some(AnalysisPhase::Inconclusive));
    assert!(memory.message.as_deref().unwrap().contains("calibration"), "{:?}", memory.message);
    let Verdict::Inconclusive { reason } = verdict(&play(true)) else { panic!("it must pass") };
    assert!(reason.contains("a gauge needs history"), "{reason}");
}

#[test]
fn a_warm_up_that_is_no_time_is_refused_and_0s_counts_every_pod() {
    let with = |warm_up: Value| {
        let mut compare = errors();
        compare["warmUp"] = warm_up;
        comparing(&[("m", compare)])
    };
    let refused = plan(&with(json!("soon")), START).status.message.unwrap();
    assert!(refused.contains("metrics[0].compare.warmUp: is no span of time"), "{refused}");
    let errors_of = |warm_up: Value| {
        let mut run = with(warm_up);
        for number in 0..4 {
            let now = at(number * 15);
            let ticks = number as f64 + 1.0;
            let answers = due(&mut run, now).into_iter().map(|key| {
                let pod = if key.contains("canary") { "web-7f9c-a" } else { "web-5d4b-a" };
                let each = if key.ends_with('1') { 300.0 } else { 3.0 };
                (key, by_pod(&[(pod, each * ticks)]))
            });
            let answers: Vec<_> = answers.collect();
            let created = [("web-7f9c-a".to_owned(), at(-5))].into();
            let observed = Observed { created, weight: None };
            run.status = Some(record_all_with(&run, &Secrets::default(), &observed, answers, now));
        }
        let evidence = run.status.unwrap().metric_results[0].evidence.clone().unwrap();
        evidence.canary.unwrap().counters.get("bad").copied()
    };
    assert_eq!(errors_of(json!("0s")), Some(9.0));
    assert_eq!(errors_of(Value::Null), Some(6.0), "15 s by default: it is older than that at 15 s");
    assert_eq!(errors_of(json!("35s")), Some(3.0));
}
