//! Comparisons of native histograms.

use serde_json::json;

use super::compare::comparing;
use super::*;

/// Native histograms after so many ticks: `slow` of 100 requests a tick in the bucket up to 2, the
/// others up to 0.5. The canary's resolution is finer.
fn native(key: &str, ticks: f64, slow: f64) -> Outcome {
    let (pod, fine) = match key.contains("canary") {
        true => ("web-7f9c-a", "0.4585020216023356"),
        false => ("web-5d4b-a", "0.42044820762685725"),
    };
    let (slow_from, all) = if key.contains("canary") {
        ("1.8340080864093424", 100.0)
    } else {
        ("1.681792830507429", 900.0)
    };
    let share = all / 100.0 * ticks;
    let buckets = json!([
        [0, fine, "0.5", sample::number((100.0 - slow) * share)],
        [0, slow_from, "2", sample::number(slow * share)],
    ]);
    let histogram = json!({"count": "1", "sum": "1", "buckets": buckets});
    Sample::Json(json!([{"labels": {"pod": pod}, "histogram": histogram}])).into()
}

fn native_run(slow: f64) -> (AnalysisRun, i64) {
    let latency = json!({"histogram": "http_request_duration_seconds", "harmful": "50%"});
    let mut run = comparing(&[("latency", latency)]);
    for number in 0..240 {
        let now = at(number * 15);
        let answers: Vec<_> = due(&mut run, now)
            .into_iter()
            .map(|key| {
                let slow = if key.contains("canary") { slow } else { 5.0 };
                let answer = native(&key, number as f64 + 1.0, slow);
                (key, answer)
            })
            .collect();
        let status = record_all(&run, answers, now);
        run.status = serde_json::from_value(serde_json::to_value(status).unwrap()).unwrap();
        if phase(&run) != AnalysisPhase::Running {
            return (run, number);
        }
    }
    (run, 240)
}

#[test]
fn native_histograms_of_different_resolution_are_compared_and_told_as_quantiles() {
    let (slower, ticks) = native_run(20.0);
    assert_eq!(phase(&slower), AnalysisPhase::Failed, "{:?}", slower.status);
    assert!(ticks < 20, "{ticks} ticks");
    let reason = verdict(&slower).reason().to_owned();
    assert!(reason.contains("(20%) against ") && reason.contains(", p99 "), "{reason}");
    let evidence = slower.status.as_ref().unwrap().metric_results[0].evidence.clone().unwrap();
    let ratio = evidence.ratio.unwrap();
    assert!((ratio - 4.0).abs() < 1e-9 && evidence.ratio_low.unwrap() > 1.0, "{evidence:?}");
    let (p50, p90) = (&evidence.quantiles[0], &evidence.quantiles[1]);
    assert!(p50.canary > 0.4 && p50.canary <= 0.5 && p50.stable <= 0.5, "{p50:?}");
    assert!(p90.canary > 1.6 && p90.canary <= 2.0 && p90.stable <= 0.5, "{p90:?}");
    assert!(p90.canary_low.unwrap() <= p90.canary && p90.canary <= p90.canary_high.unwrap());
    let (equal, ticks) = native_run(5.0);
    assert_eq!(phase(&equal), AnalysisPhase::Successful, "after {ticks}: {:?}", equal.status);
}

#[test]
fn a_native_histogram_is_no_number_and_does_not_go_with_classic_buckets() {
    let message = |compare: Value, classic: &str| {
        let mut run = comparing(&[("m", compare)]);
        let answers: Vec<_> = due(&mut run, START)
            .into_iter()
            .map(|key| {
                let number = json!([{"labels": {"pod": "web-7f9c-a", "le": "1"}, "value": "1"}]);
                let mixed = key.contains(classic);
                let answer =
                    if mixed { Sample::Json(number).into() } else { native(&key, 1.0, 5.0) };
                (key, answer)
            })
            .collect();
        run.status = Some(record_all(&run, answers, START));
        run.status.as_ref().unwrap().metric_results[0].message.clone().unwrap()
    };
    let text = message(json!({"histogram": "x"}), "canary");
    assert!(text.contains("some are not; name the classic buckets"), "{text}");
    let text = message(json!({"gauge": "x"}), "nowhere");
    assert!(text.contains("write it under compare.histogram"), "{text}");
}

/// What a server of native histograms answers: over a range it is refused.
fn served(query: &Query, ticks: f64) -> Outcome {
    if query.source.ask == Ask::default() {
        return native(&query.metric, ticks, 5.0);
    }
    let message = "native histograms are not read over a range".to_owned();
    Outcome::Error(QueryError { kind: ErrorKind::Malformed, message, retry_after: None })
}

/// The canary's requests that are counted after each of 14 ticks, of which `spoilt` may spoil some.
fn counted(spoilt: impl Fn(&mut AnalysisRun, i64) -> bool) -> Vec<f64> {
    let latency = json!({"histogram": "http_request_duration_seconds", "harmful": "5%"});
    let mut run = comparing(&[("latency", latency)]);
    let mut counts = Vec::new();
    for number in 0..14 {
        if spoilt(&mut run, number) {
            continue;
        }
        let now = at(number * 15);
        let queries = plan(&run, now).due;
        let answers = queries.iter().map(|q| (q.metric.clone(), served(q, number as f64 + 1.0)));
        let answers: Vec<_> = answers.collect();
        run.status = Some(record_all(&run, answers, now));
        let result = &run.status.as_ref().unwrap().metric_results[0];
        assert_eq!(result.consecutive_error, 0, "tick {number}: {:?}", result.message);
        let evidence = result.evidence.clone().unwrap().canary.unwrap();
        counts.push(evidence.buckets.iter().map(|bucket| bucket.count).sum());
    }
    counts
}

#[test]
fn after_a_while_without_a_controller_native_histograms_are_counted_on() {
    let whole = counted(|_, _| false);
    let gap = counted(|_, number| (3..12).contains(&number));
    assert_eq!(whole.last(), Some(&1_300.0));
    assert_eq!(gap.last(), Some(&1_300.0), "the next difference bridges the gap: {gap:?}");
    let early = counted(|_, number| (1..9).contains(&number));
    assert_eq!(early.last(), Some(&1_300.0), "{early:?}");
}

#[test]
fn without_their_checkpoint_native_histograms_are_counted_anew_from_then() {
    let lost = counted(|run, number| {
        if number == 8 {
            run.status.as_mut().unwrap().metric_results[0].checkpoint = None;
        }
        false
    });
    assert_eq!(lost.last(), Some(&500.0), "five ticks after the one where it began anew: {lost:?}");
}
