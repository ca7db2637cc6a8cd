//! What users of Kayenta reported as wrong, as counters: the answer that a person expects. A point of
//! theirs is a minute here. spinnaker/spinnaker 6278, spinnaker/kayenta 780 (the first of its shapes),
//! 426, 799 and 377; the judge's own answers are in `judge/kayenta/tests.rs`.

use serde_json::json;

use super::*;
use crate::api::analysis_run::RunRelease;

fn run_with(compare: Value) -> AnalysisRun {
    let field = json!({"name": "m", "compare": compare});
    let mut run = run_of(vec![serde_json::from_value(field).unwrap()]);
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

fn by_pod(pod: &str, value: f64) -> Outcome {
    Sample::Json(json!([{"labels": {"pod": pod}, "value": sample::number(value)}])).into()
}

/// The phase after minutes with so many errors of 1,000 canary requests, while the stable version has
/// so many of 9,000; and the minute in which it came.
fn errors(canary: &[f64], stable: &[f64]) -> (AnalysisPhase, usize) {
    let mut run = run_with(json!({"ratio": {"bad": "bad", "total": "total"}}));
    let (mut bad, mut minute) = ([0.0, 0.0], 0);
    for tick in 0..=canary.len() * 4 {
        let now = at(tick as i64 * 15);
        minute = tick.saturating_sub(1) / 4;
        if tick > 0 {
            bad[0] += canary[minute] / 4.0;
            bad[1] += stable[minute] / 4.0;
        }
        let answers: Vec<_> = due(&mut run, now)
            .into_iter()
            .map(|key| {
                let ticks = tick as f64;
                let answer = match key.as_str() {
                    "m/canary/0" => by_pod("web-7f9c-a", bad[0].floor()),
                    "m/canary/1" => by_pod("web-7f9c-a", 250.0 * ticks),
                    "m/stable/0" => by_pod("web-5d4b-a", bad[1].floor()),
                    _ => by_pod("web-5d4b-a", 2_250.0 * ticks),
                };
                (key, answer)
            })
            .collect();
        run.status = Some(record_all(&run, answers, now));
        if phase(&run) != AnalysisPhase::Running {
            break;
        }
    }
    (phase(&run), minute + 1)
}

#[test]
fn seven_minutes_of_ten_a_hundred_times_worse_fail_in_the_first_one() {
    let canary = [[100.0; 7].as_slice(), &[1.0; 3]].concat();
    assert_eq!(errors(&canary, &[9.0; 10]), (AnalysisPhase::Failed, 1));
}

#[test]
fn errors_where_there_were_none_fail_although_most_minutes_are_good() {
    let (found, minute) = errors(&[0.0, 1.0, 2.0, 1.0, 0.0, 0.0], &[0.0; 6]);
    assert_eq!(found, AnalysisPhase::Failed, "in minute {minute}");
}

#[test]
fn errors_of_the_canary_alone_fail_whatever_the_stable_version_lacks() {
    let (found, minute) = errors(&[1.0, 4.0, 2.0, 3.0, 1.0], &[0.0; 5]);
    assert_eq!(found, AnalysisPhase::Failed, "in minute {minute}");
}

#[test]
fn two_healthy_versions_without_any_error_do_not_fail() {
    let (found, _) = errors(&[0.0; 30], &[0.0; 30]);
    assert_eq!(found, AnalysisPhase::Running, "nothing is known without events");
}

#[test]
fn half_of_the_requests_ten_times_slower_fail_although_the_other_half_is_faster() {
    // Of each two requests one takes 5 and one takes 100; the stable version's take 10 to 17. In these
    // coarse buckets the two differ in nothing but what the stable version never was.
    let mut run = run_with(json!({"histogram": "x_bucket"}));
    let mut last = 0;
    for tick in 0..40_i64 {
        let now = at(tick * 15);
        last = tick;
        let answers: Vec<_> = due(&mut run, now)
            .into_iter()
            .map(|key| {
                let ticks = tick as f64 + 1.0;
                let (pod, below): (_, [f64; 4]) = match key.starts_with("m/canary") {
                    true => ("web-7f9c-a", [50.0, 50.0, 50.0, 100.0]),
                    false => ("web-5d4b-a", [0.0, 450.0, 900.0, 900.0]),
                };
                let row = |(le, count): (&str, f64)| {
                    let value = sample::number(count * ticks);
                    json!({"labels": {"pod": pod, "le": le}, "value": value})
                };
                let rows: Vec<_> =
                    ["7.5", "15", "25", "+Inf"].into_iter().zip(below).map(row).collect();
                (key, Sample::Json(Value::Array(rows)).into())
            })
            .collect();
        run.status = Some(record_all(&run, answers, now));
        if phase(&run) != AnalysisPhase::Running {
            break;
        }
    }
    assert_eq!(phase(&run), AnalysisPhase::Failed, "after {last} ticks");
    assert!(verdict(&run).reason().contains("(50%) against 0 of "), "{}", verdict(&run).reason());
    assert!(last <= 4, "{last} ticks");
}
