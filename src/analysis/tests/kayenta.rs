//! Kayenta's judge in a run: what is asked, when, and what a score makes of the run.

use serde_json::json;

use super::*;
use crate::api::analysis_run::RunRelease;
use crate::api::kayenta::KayentaRun;

/// A canary config as Kayenta exports it, with two groups.
fn config() -> Value {
    let metric = |name: &str, group: &str, query: &str, canary: Value| {
        json!({
            "name": name,
            "query": {
                "type": "prometheus", "serviceType": "prometheus",
                "customInlineTemplate": format!("PromQL:{query}"),
            },
            "groups": [group],
            "analysisConfigurations": {"canary": canary},
            "scopeName": "default",
        })
    };
    json!({
        "id": "4d9", "name": "web", "description": "errors and cpu", "configVersion": "1.0",
        "applications": ["web"], "createdTimestamp": 1_514_845_842_000_i64,
        "judge": {"name": "NetflixACAJudge-v1.0", "judgeConfigurations": {}},
        "metrics": [
            metric("errors", "errors", "sum(rate(errors_total[1m]))", json!({"direction": "increase"})),
            metric("cpu", "saturation", "avg(cpu)", json!({"nanStrategy": "replace"})),
        ],
        "templates": {},
        "classifier": {
            "groupWeights": {"errors": 60, "saturation": 40},
            "scoreThresholds": {"pass": 95, "marginal": 50},
        },
    })
}

fn release() -> RunRelease {
    RunRelease {
        rollout: "web".to_owned(),
        id: "r1".to_owned(),
        scope: "1".to_owned(),
        stable: Some("5d4b".to_owned()),
        canary: Some("7f9c".to_owned()),
        ..RunRelease::default()
    }
}

fn running(config: Value, kayenta: Value) -> AnalysisRun {
    let mut run = run_of(Vec::new());
    run.spec.kayenta_config = Some(crate::api::common::Opaque(config));
    run.spec.kayenta = serde_json::from_value(kayenta).unwrap();
    run.spec.release = Some(release());
    run
}

/// A range's one series without labels.
fn line(values: &[f64]) -> Outcome {
    let points = (0..).zip(values).map(|(i, value)| (at(i * 60), *value)).collect();
    Sample::Lines(vec![Line { labels: std::collections::BTreeMap::new(), points }]).into()
}

/// `points` around `level`.
fn around(level: f64, points: i64) -> Outcome {
    line(&(0..points).map(|i| level + (i * 7 % 30) as f64 / 30.0).collect::<Vec<_>>())
}

/// One judgement: errors and cpu of the canary, where the stable version's are at 5.
fn judgement(run: &mut AnalysisRun, seconds: i64, errors: f64, cpu: f64) {
    let asked = due(run, at(seconds));
    assert_eq!(asked.len(), 4, "{asked:?}");
    let answers: Vec<_> = asked
        .into_iter()
        .map(|key| {
            let level = match key.as_str() {
                "kayenta/0/experiment" => errors,
                "kayenta/1/experiment" => cpu,
                _ => 5.0,
            };
            (key, around(level, 30))
        })
        .collect();
    let status = record_all(run, answers, at(seconds));
    run.status = serde_json::from_value(serde_json::to_value(status).unwrap()).unwrap();
}

fn result(run: &AnalysisRun) -> &crate::api::MetricResult {
    &run.status.as_ref().unwrap().metric_results[0]
}

fn explanation(run: &AnalysisRun) -> &str {
    result(run).measurements.last().unwrap().explanation.as_deref().unwrap()
}

#[test]
fn a_canary_config_is_asked_over_a_range_for_each_arm_after_warm_up_and_interval() {
    let provider = json!({"ref": "thanos"});
    let run = running(
        config(),
        json!({"interval": "30m", "initialDelay": "5m", "step": "30s", "provider": provider}),
    );
    let first = plan(&run, START);
    assert_eq!((first.due.len(), first.wake), (0, Some(at(35 * 60))));
    let mut run = AnalysisRun { status: Some(first.status), ..run };
    let due = plan(&run, at(35 * 60)).due;
    assert_eq!(due[0].source.named.as_ref().unwrap().name, "thanos");
    let texts: Vec<_> = due.iter().map(|q| (q.metric.as_str(), q.text.as_str())).collect();
    assert_eq!(
        texts[..2],
        [
            ("kayenta/0/control", "sum(rate(errors_total{pod=~\".+-5d4b-.*\"}[1m]))"),
            ("kayenta/0/experiment", "sum(rate(errors_total{pod=~\".+-7f9c-.*\"}[1m]))"),
        ]
    );
    let window = |due: &[Query]| {
        let Ask::Prometheus { range: Some(range) } = &due[0].source.ask else { panic!() };
        assert!(due.iter().all(|q| q.labelled && q.source == due[0].source));
        (range.start.at(START), range.end.at(START), range.step.as_secs())
    };
    assert_eq!(window(&due), (at(5 * 60), at(35 * 60), 30), "the warm-up is not judged");
    run.spec.kayenta = Some(KayentaRun {
        lookback: Some(crate::api::DurationSpec::Text("10m".to_owned())),
        ..run.spec.kayenta.unwrap()
    });
    assert_eq!(window(&plan(&run, at(35 * 60)).due).0, at(25 * 60), "a sliding window");
}

#[test]
fn a_score_from_pass_on_passes_with_the_last_judgement() {
    let mut run = running(config(), json!({"interval": "30m", "count": 2}));
    let _not_yet = due(&mut run, START);
    judgement(&mut run, 1_800, 5.0, 5.0);
    assert_eq!(phase(&run), AnalysisPhase::Running, "one of two");
    judgement(&mut run, 3_600, 5.0, 5.0);
    assert_eq!((phase(&run), verdict(&run)), (AnalysisPhase::Successful, Verdict::Pass));
    assert_eq!(result(&run).evidence.as_ref().unwrap().score, Some(100.0));
    let text = "score 100 (pass 95, marginal 50), judgement 2 of 2: 2 of 2 pass";
    assert_eq!(explanation(&run), text);
}

#[test]
fn a_score_up_to_marginal_fails_at_once_with_the_numbers() {
    let mut run = running(config(), json!({"interval": "30m", "count": 4}));
    let _not_yet = due(&mut run, START);
    judgement(&mut run, 1_800, 25.0, 5.0);
    assert_eq!(phase(&run), AnalysisPhase::Failed);
    let Verdict::Fail { reason } = verdict(&run) else { panic!("{:?}", verdict(&run)) };
    assert!(
        reason.starts_with(
            "kayenta: score 40 (pass 95, marginal 50), judgement 1 of 4: errors High: mean 25.5 \
             against 5.48, 4.65 times; 1 of 2 pass"
        ),
        "{reason}"
    );
}

#[test]
fn a_score_that_is_exactly_marginal_fails_as_in_kayentas_loop() {
    let mut run = running(config(), json!({"interval": "30m", "marginal": 40}));
    let _not_yet = due(&mut run, START);
    judgement(&mut run, 1_800, 25.0, 5.0);
    assert_eq!(phase(&run), AnalysisPhase::Failed);
    assert!(explanation(&run).contains("no more than marginal"), "{}", explanation(&run));
}

#[test]
fn between_the_thresholds_it_goes_on_and_at_the_end_it_cannot_tell() {
    let mut run = running(config(), json!({"interval": "30m", "count": 2}));
    let _not_yet = due(&mut run, START);
    judgement(&mut run, 1_800, 5.0, 25.0);
    assert_eq!(phase(&run), AnalysisPhase::Running, "{}", explanation(&run));
    judgement(&mut run, 3_600, 5.0, 25.0);
    assert_eq!(phase(&run), AnalysisPhase::Inconclusive);
    let Verdict::Inconclusive { reason } = verdict(&run) else { panic!("{:?}", verdict(&run)) };
    assert!(reason.contains("score 60 (pass 95, marginal 50), judgement 2 of 2"), "{reason}");
    // Ended before the last judgement.
    let mut early = running(config(), json!({"interval": "30m", "count": 2}));
    let _not_yet = due(&mut early, START);
    judgement(&mut early, 1_800, 5.0, 25.0);
    early.spec.terminate = true;
    early.status = Some(plan(&early, at(2_000)).status);
    let Verdict::Inconclusive { reason } = verdict(&early) else { panic!("{:?}", verdict(&early)) };
    assert!(reason.contains("ended before the last judgement"), "{reason}");
}

#[test]
fn without_data_it_waits_unless_kayentas_own_score_of_0_is_wanted() {
    let none = |kayenta: Value| {
        let mut run = running(config(), kayenta);
        let _not_yet = due(&mut run, START);
        let asked = due(&mut run, at(1_800));
        let answers: Vec<_> = asked.into_iter().map(|key| (key, Sample::Empty.into())).collect();
        run.status = Some(record_all(&run, answers, at(1_800)));
        run
    };
    // cpu replaces NaN by 0 on both sides and passes; errors alone are half of the metrics.
    let waits = none(json!({"interval": "30m"}));
    assert_eq!(phase(&waits), AnalysisPhase::Running);
    let missing = waits.status.as_ref().unwrap().missing.as_deref().unwrap();
    assert!(missing.contains("50% or more metrics returned NODATA"), "{missing}");
    let judged = none(json!({"interval": "30m", "noData": "Judge"}));
    assert_eq!(phase(&judged), AnalysisPhase::Failed);
}

#[test]
fn a_server_that_is_down_is_asked_again() {
    let mut run = running(config(), json!({"interval": "30m"}));
    let _not_yet = due(&mut run, START);
    let asked = due(&mut run, at(1_800));
    let answers: Vec<_> = asked.into_iter().map(|key| (key, down())).collect();
    run.status = Some(record_all(&run, answers, at(1_800)));
    assert_eq!(phase(&run), AnalysisPhase::Running);
    judgement(&mut run, 1_810, 5.0, 5.0);
    assert_eq!(phase(&run), AnalysisPhase::Successful);
}

#[test]
fn kayentas_own_ways_are_named_where_they_decided() {
    let mut config = config();
    config["classifier"]["groupWeights"] = json!({"errors": 60, "absent": 40});
    let mut run = running(config, json!({"interval": "30m"}));
    let _not_yet = due(&mut run, START);
    judgement(&mut run, 1_800, 5.0, 5.0);
    let text = explanation(&run);
    assert!(text.contains("Kayenta's own ways: absent: it has no metric; its 40%"), "{text}");
}

#[test]
fn scopes_tell_the_arms_apart_where_the_queries_name_them() {
    let mut config = config();
    for (i, query) in ["sum(rate(errors_total{app=\"${scope}\",zone=\"${location}\"}[1m]))", "cpu"]
        .iter()
        .enumerate()
    {
        config["metrics"][i]["query"]["customInlineTemplate"] = json!(format!("PromQL:{query}"));
    }
    let mut run = running(
        config.clone(),
        json!({
            "control": {"scope": "web-{{args.old}}", "location": "eu"},
            "experiment": {"scope": "web-new", "extendedScopeParams": {"location": "us"}},
            "podLabel": "kubernetes_pod_name",
        }),
    );
    run.spec.args = serde_json::from_value(json!([{"name": "old", "value": "5d4b"}])).unwrap();
    let _not_yet = due(&mut run, START);
    let texts: Vec<_> = plan(&run, at(1_800)).due.into_iter().map(|q| q.text).collect();
    assert_eq!(
        texts,
        [
            "sum(rate(errors_total{app=\"web-5d4b\",zone=\"eu\"}[1m]))",
            "sum(rate(errors_total{app=\"web-new\",zone=\"us\"}[1m]))",
            "cpu{kubernetes_pod_name=~\".+-5d4b-.*\"}",
            "cpu{kubernetes_pod_name=~\".+-7f9c-.*\"}",
        ]
    );
    let refused = plan(&running(config, json!({})), START).status.message.unwrap();
    assert!(refused.contains("kayentaConfig.metrics[0]: ${scope} has no value"), "{refused}");
}

#[test]
fn one_metric_is_judged_by_kayenta_where_its_compare_says_so() {
    let judge = json!({
        "canary": {"direction": "increase", "effectSize": {"allowedIncrease": 1.2}},
        "lookback": "20m", "step": "30s", "relativeTolerance": true, "failClosedErrors": true,
    });
    let compare = json!({"series": "sum(rate(errors_total[1m]))", "judge": {"kayenta": judge}});
    let field = json!({"name": "errors", "interval": "10m", "count": 2, "compare": compare});
    let mut run = run_of(vec![serde_json::from_value(field).unwrap()]);
    run.spec.release = Some(release());
    let _not_yet = due(&mut run, START);
    let mut last = |seconds: i64, level: f64| {
        let asked = due(&mut run, at(seconds));
        assert_eq!(asked, ["errors/0/control", "errors/0/experiment"]);
        let answers = asked.into_iter().map(|key| {
            let level = if key.ends_with("control") { 5.0 } else { level };
            (key, around(level, 20))
        });
        let answers: Vec<_> = answers.collect();
        run.status = Some(record_all(&run, answers, at(seconds)));
        phase(&run)
    };
    assert_eq!(last(600, 5.0), AnalysisPhase::Running);
    assert_eq!(last(1_200, 9.0), AnalysisPhase::Failed);
    assert!(explanation(&run).contains("errors High"), "{}", explanation(&run));
}

#[test]
fn one_point_in_each_arm_passes_in_kayenta_and_fails_when_errors_fail_closed() {
    let ended = |closed: bool| {
        let judge = json!({"canary": {}, "failClosedErrors": closed});
        let compare = json!({"series": "x", "judge": {"kayenta": judge}});
        let mut run =
            run_of(vec![serde_json::from_value(json!({"name": "m", "compare": compare})).unwrap()]);
        run.spec.release = Some(release());
        let _not_yet = due(&mut run, START);
        let answers: Vec<_> = due(&mut run, at(1_800))
            .into_iter()
            .map(|key| {
                let value = if key.ends_with("control") { 3.0 } else { 5.0 };
                (key, line(&[value]))
            })
            .collect();
        run.status = Some(record_all(&run, answers, at(1_800)));
        (phase(&run), explanation(&run).to_owned())
    };
    let (open, text) = ended(false);
    assert_eq!(open, AnalysisPhase::Successful);
    assert!(text.contains("ErrorIgnored") && text.contains("NoiseAdded"), "{text}");
    assert_eq!(ended(true).0, AnalysisPhase::Failed);
}

#[test]
fn what_kayenta_cannot_judge_is_refused_with_its_path() {
    let refused =
        |run: &AnalysisRun| plan(run, START).status.message.unwrap_or_else(|| panic!("accepted"));
    let metric = |compare: Value| {
        let field = json!({"name": "m", "compare": compare});
        let mut run = run_of(vec![serde_json::from_value(field).unwrap()]);
        run.spec.release = Some(release());
        run
    };
    let kayenta = json!({"kayenta": {}});
    for (compare, words) in [
        (json!({"gauge": "x", "judge": kayenta}), "metrics[0].compare: series is for judge"),
        (json!({"series": "x"}), "metrics[0].compare: series is for judge"),
        (json!({"series": "x", "harmful": "50%", "judge": kayenta}), "effectSize"),
        (json!({"series": "vector(1)", "judge": kayenta}), "selects no series"),
        (
            json!({"series": "x", "judge": {"kayenta": {"canary": {"muted": true}}}}),
            "canary.muted: it would be judged",
        ),
        (json!({"series": "x", "judge": {"kayenta": {"step": "0s"}}}), "judge.kayenta.step"),
    ] {
        let text = refused(&metric(compare.clone()));
        assert!(text.contains(words), "{compare}: {text}");
    }
    let mut other = config();
    other["judge"]["name"] = json!("dredd-v1.0");
    let text = refused(&running(other, json!({})));
    assert!(text.contains("kayentaConfig: judge.name is \"dredd-v1.0\""), "{text}");
    let crossed = refused(&running(config(), json!({"pass": 30})));
    assert!(crossed.contains("marginal 50 is above pass 30"), "{crossed}");
    let mut stackdriver = config();
    stackdriver["metrics"][1]["query"]["type"] = json!("stackdriver");
    let text = refused(&running(stackdriver, json!({})));
    assert!(text.contains("kayentaConfig.metrics[1]: query.type is \"stackdriver\""), "{text}");
    let mut alone = running(config(), json!({}));
    alone.spec.release = None;
    assert!(refused(&alone).contains("only a release has two arms"), "{}", refused(&alone));
}
