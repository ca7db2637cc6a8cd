//! More rows of Argo Rollouts' own tests (v1.9, `factory_test.go`, `helpers_test.go`, `analysis_test.go`):
//! messages of a spec that is refused, templates that become one, arguments as whole conditions, and
//! when a run is looked at again.

use AnalysisPhase::{Error, Failed, Running, Successful};
use serde_json::json;

use super::super::{AnalysisError, NamedTemplate, ReleaseContext};
use super::*;
use crate::api::{AnalysisRunStatus, AnalysisTemplateSpec, Measurement, MetricResult, Time};
use crate::spec::AnalysisStanza;

fn refused(run: &AnalysisRun) -> String {
    let status = plan(run, START).status;
    assert_eq!(status.phase, Some(Error), "{status:?}");
    status.message.unwrap()
}

#[test]
fn a_spec_that_is_refused_says_so_in_argos_words() {
    assert_eq!(refused(&run_of(vec![])), "Analysis spec invalid: no metrics specified");
    let twice = run_of(vec![metric("success-rate", json!({})), metric("success-rate", json!({}))]);
    assert_eq!(refused(&twice), "Analysis spec invalid: metrics[1]: duplicate name 'success-rate'");
    for (fields, words) in [
        (
            json!({"interval": "60s-typo"}),
            "metrics[0].interval: invalid interval string: time: unknown unit \"s-typo\" in duration \
             \"60s-typo\"",
        ),
        (
            json!({"initialDelay": "60s-typo"}),
            "metrics[0].initialDelay: invalid startDelay string: time: unknown unit \"s-typo\" in duration \
             \"60s-typo\"",
        ),
        (
            json!({"interval": "soon"}),
            "metrics[0].interval: invalid interval string: time: invalid duration \"soon\"",
        ),
    ] {
        let said = refused(&run_of(vec![metric("m", fields)]));
        assert!(said.starts_with(&format!("Analysis spec invalid: {words}")), "{said}");
    }
    // A count of 0 switches the rules of the count off.
    let fields = json!({"count": 0, "failureLimit": 2, "inconclusiveLimit": 2, "interval": "1m"});
    let run = run_of(vec![metric("m", fields)]);
    assert_eq!(plan(&run, START).status.phase, Some(Running));
}

fn template(spec: Value) -> AnalysisTemplateSpec {
    serde_json::from_value(spec).unwrap()
}

fn flat(templates: &[AnalysisTemplateSpec]) -> Result<AnalysisRun, AnalysisError> {
    let named = templates.iter().enumerate();
    let named: Vec<_> =
        named.map(|(i, spec)| NamedTemplate { name: format!("t{i}"), spec }).collect();
    let rollout = json!({"metadata": {"name": "web"}});
    let context = ReleaseContext { stable: "a", canary: "b", rollout: &rollout, release: None };
    build_run("web-1", "shop", None, &named, &AnalysisStanza::default(), &context)
}

fn asking(name: &str) -> Value {
    json!({"name": name, "provider": {"prometheus": {"query": "sum(x)"}}})
}

/// `FlattenTemplates`: `None` where Argo refuses.
#[test]
fn templates_are_flattened_as_argos_rows_say() {
    let one = |arg: Value| template(json!({"metrics": [asking("foo")], "args": [arg]}));
    let two = |arg: Value| template(json!({"metrics": [asking("bar")], "args": [arg]}));
    let with = |name: &str, field: &str, rule: Value| {
        template(json!({"metrics": [asking(name)], field: [rule]}))
    };
    let dry = json!({"metricName": ".*"});
    let kept = json!({"metricName": ".*", "limit": 5});
    let metrics =
        |run: &AnalysisRun| run.spec.metrics.iter().map(|m| m.name.clone()).collect::<Vec<_>>();
    let plain = |name: &str| template(json!({"metrics": [asking(name)]}));
    for (what, templates, expected) in [
        ("single", vec![plain("foo")], Some(vec!["foo"])),
        ("metrics are merged", vec![plain("foo"), plain("bar")], Some(vec!["foo", "bar"])),
        ("two metrics of a name", vec![plain("foo"), plain("foo")], None),
        (
            "two dry runs of a name",
            vec![with("foo", "dryRun", dry.clone()), with("bar", "dryRun", dry)],
            None,
        ),
        (
            "two retentions of a name",
            vec![
                with("foo", "measurementRetention", kept.clone()),
                with("bar", "measurementRetention", kept),
            ],
            None,
        ),
        (
            "one argument with a value",
            vec![one(json!({"name": "x"})), two(json!({"name": "x", "value": "1"}))],
            Some(vec!["foo", "bar"]),
        ),
        (
            "two values of an argument",
            vec![one(json!({"name": "x", "value": "2"})), two(json!({"name": "x", "value": "1"}))],
            None,
        ),
    ] {
        let found = flat(&templates).map(|run| metrics(&run)).ok();
        let expected = expected.map(|names| names.into_iter().map(str::to_owned).collect());
        assert_eq!(found, expected, "{what}");
    }
    assert_eq!(flat(&[]).unwrap_err(), AnalysisError::NoTemplates);
}

/// `{{args.rate}}` and `result == "{{args.success-condition}}"` of Argo's documentation.
#[test]
fn an_argument_may_be_the_whole_condition_or_a_text_in_it() {
    let ask = json!({"prometheus": {"query": "sum(x)"}});
    let web = json!({"web": {"url": "http://judge.example"}});
    for (condition, args, provider, sample, expected) in [
        (
            "{{args.rate}}",
            json!([{"name": "rate", "value": "result[0] < 0.05"}]),
            ask.clone(),
            Sample::Series(vec![0.01]),
            Successful,
        ),
        (
            "{{args.rate}}",
            json!([{"name": "rate", "value": "result[0] < 0.05"}]),
            ask.clone(),
            Sample::Series(vec![0.1]),
            Failed,
        ),
        (
            "default(result, 0) > {{ args.restarts.max-restarts }}",
            json!([{"name": "restarts.max-restarts", "value": "3"}]),
            web.clone(),
            Sample::Json(json!(4)),
            Successful,
        ),
        (
            "result == \"{{args.success-condition}}\"",
            json!([{"name": "success-condition", "value": "I am OK"}]),
            web,
            Sample::Text("I am OK".to_owned()),
            Successful,
        ),
    ] {
        let fields = json!({"successCondition": condition, "provider": provider});
        let mut run = run_of(vec![metric("m", fields)]);
        run.spec.args = serde_json::from_value(args).unwrap();
        answer(&mut run, &[("m", sample.into())], START);
        assert_eq!(phase(&run), expected, "{condition}: {}", message(&run));
    }
}

/// A finished measurement so many seconds before `START + 1000`.
fn ended(phase: AnalysisPhase, ago: i64) -> MetricResult {
    let at = Time(at(1_000 - ago));
    let good = i32::from(phase == Successful);
    MetricResult {
        count: 1,
        successful: good,
        failed: 1 - good,
        measurements: vec![Measurement {
            phase: Some(phase),
            started_at: Some(at.clone()),
            finished_at: Some(at),
            ..Measurement::default()
        }],
        ..MetricResult::default()
    }
}

fn two(first: (Value, MetricResult), second: (Value, MetricResult)) -> AnalysisRun {
    let mut run = run_of(vec![metric("m", first.0), metric("n", second.0)]);
    let named = |name: &str, result| MetricResult { name: name.to_owned(), ..result };
    run.status = Some(AnalysisRunStatus {
        phase: Some(Running),
        started_at: Some(Time(START)),
        metric_results: vec![named("m", first.1), named("n", second.1)],
        ..AnalysisRunStatus::default()
    });
    run
}

#[test]
fn a_sibling_that_has_failed_leaves_no_tasks_and_the_earlier_of_two_wakes() {
    let every = |span: &str| json!({"interval": span});
    let failed = MetricResult { phase: Some(Failed), ..ended(Failed, 61) };
    let planned =
        plan(&two((every("60s"), failed), (every("60s"), ended(Successful, 61))), at(1_000));
    assert_eq!((planned.due.len(), planned.status.phase), (0, Some(Failed)));

    let both = two((every("60s"), ended(Successful, 30)), (every("20s"), ended(Successful, 10)));
    let planned = plan(&both, at(1_000));
    assert_eq!((planned.due.len(), planned.wake), (0, Some(at(1_010))), "the earlier of two");

    let none = || MetricResult::default();
    let late = json!({"initialDelay": "40s"});
    let both = two((late, none()), (every("1h"), ended(Successful, 30)));
    let mut both = both;
    both.status.as_mut().unwrap().started_at = None;
    let planned = plan(&both, at(1_000));
    assert_eq!((planned.due.len(), planned.wake), (0, Some(at(1_040))), "it starts now");
}
