//! The page of an analysis as an engineer reads it at night.

use super::*;

const FAILED_RUN: &str = r#"
metadata: {name: web-e646-s1-1, namespace: shop}
spec:
  metrics: []
  release: {rollout: web, id: e646-2, scope: "1"}
status:
  phase: Failed
  verdict: Fail
  reason: "errors: 24 of 414 (5.8%) against 16 of 2406 (0.665%), 8.72 times"
  startedAt: "2026-01-05T10:00:00Z"
  completedAt: "2026-01-05T10:01:15Z"
  metricResults:
  - name: errors
    phase: Failed
    verdict: Fail
    count: 4
    evidence:
      canary: {pods: 2, counters: {bad: 24, total: 414}}
      stable: {pods: 8, counters: {bad: 16, total: 2406}}
      ratio: 8.7174
      ratioLow: 4.68
      ratioHigh: 16.2
      logE: 12.1
      logBoundary: 4.605
    path:
      from: "2026-01-05T10:00:00Z"
      to: "2026-01-05T10:01:15Z"
      every: 1
      logE: [0, 120, 340, 1210]
      logEPass: [-10, -200, -400, -900]
      logBoundary: [461, 461, 461, 461]
  - name: latency
    phase: Inconclusive
    verdict: Continue
    count: 4
    missing: "latency: not yet shown to change by less than 1.25 times, about 7 minutes at this traffic"
    estimatedMinutes: 7
    metadata: {ResolvedPrometheusQuery: "http_request_duration_seconds_bucket"}
    evidence:
      canary: {pods: 2}
      stable: {pods: 8}
      ratio: 1.02
      ratioLow: 0.8
      ratioHigh: 1.3
      logE: -0.4
      logBoundary: 4.605
      logEPass: 1.2
      quantiles:
      - {quantile: p99, canary: 0.402, stable: 0.312, canaryLow: 0.25, canaryHigh: 0.5}
  - name: restarts
    phase: Successful
    verdict: Pass
    count: 3
    successful: 3
    measurements:
    - {value: "1", phase: Successful, explanation: "1 <= 3"}
    - {value: "[2]", phase: Successful, explanation: "2 <= 3"}
    - {value: "0", phase: Successful, explanation: "0 <= 3"}
  - name: kayenta
    phase: Running
    verdict: Continue
    count: 1
    evidence: {score: 80}
    measurements:
    - {value: "80", phase: Running, explanation: "score 80 (pass 95, marginal 75), judgement 1 of 4: cpu High"}
"#;

fn run() -> AnalysisRun {
    serde_saphyr::from_str(FAILED_RUN).unwrap()
}

#[test]
fn the_page_has_a_line_for_each_metric_and_then_what_is_missing() {
    let page = page(&run(), false);
    println!("{page}");
    let lines: Vec<&str> = page.lines().map(str::trim_end).collect();
    let has = |words: &[&str]| {
        let found = lines.iter().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "no line with {words:?} in\n{page}");
    };
    assert_eq!(lines[0], "Analysis   shop/web-e646-s1-1");
    assert_eq!(lines[1], "Release    e646-2 of web, step 1");
    assert_eq!(lines[2], "Verdict    FAIL after 1m 15s");
    has(&["errors", "FAIL", "24 of 414 (5.8%)", "16 of 2406 (0.665%)", "8.72x (4.68 to 16.2)"]);
    has(&["errors", "harm e^12.1 of e^4.6", "▁▂▆█"]);
    has(&["latency", "p99 402 ms", "p99 312 ms", "1.02x (0.8 to 1.3)", "harmless e^1.2 of e^3.0"]);
    has(&["restarts", "PASS", "3 good, 0 bad", "▄█▁"]);
    has(&["kayenta", "score 80"]);
    has(&["latency: not yet shown to change by less than 1.25 times, about 7 minutes"]);
    has(&["kayenta: score 80 (pass 95, marginal 75), judgement 1 of 4: cpu High"]);
    assert!(!page.contains('\u{1b}'), "no colours where none are wanted");
}

#[test]
fn the_picture_is_xml_with_a_panel_for_each_comparison() {
    let svg = svg::draw(&run());
    let polylines = svg.matches("<polyline").count();
    assert_eq!(polylines, 3, "harm, enough and harmless of the one metric with a path");
    assert!(svg.contains("web-e646-s1-1: FAIL") && svg.contains("2026-01-05T10:01:15Z"), "{svg}");
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    let mut hostile = run();
    hostile.metadata.name = Some("<script>&".to_owned());
    assert!(svg::draw(&hostile).contains("&lt;script&gt;&amp;"));
    hostile.status = None;
    assert!(svg::draw(&hostile).contains("no comparison has evidence yet"));
}

#[test]
fn the_list_has_the_newest_run_first() {
    let mut older = run();
    let at =
        |text: &str| k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(text.parse().unwrap());
    older.metadata.creation_timestamp = Some(at("2026-01-04T10:00:00Z"));
    older.metadata.name = Some("older".to_owned());
    let mut newer = run();
    newer.metadata.creation_timestamp = Some(at("2026-01-05T10:00:00Z"));
    let text = list(vec![older, newer]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[1].trim_start().starts_with("web-e646-s1-1"), "{text}");
    assert!(lines[1].contains("Fail") && lines[1].contains("errors: 24 of 414"), "{text}");
    assert!(lines[2].trim_start().starts_with("older"), "{text}");
}

#[test]
fn numbers_have_three_digits_and_a_unit_that_people_say() {
    for (value, text) in
        [(0.0, "0"), (0.00123, "0.00123"), (12.0, "12"), (16.23, "16.2"), (51234.6, "51235")]
    {
        assert_eq!(digits(value), text);
    }
    assert_eq!(
        (quantity(0.402, true), quantity(12.0, true)),
        ("402 ms".to_owned(), "12 s".to_owned())
    );
    assert_eq!(quantity(0.402, false), "0.402");
}

#[test]
fn a_curve_keeps_its_peak() {
    let mut shares = vec![0.0; 100];
    shares[41] = 1.0;
    assert_eq!(blocks(&shares).chars().filter(|c| *c == '█').count(), 1);
    assert_eq!(blocks(&shares).chars().count(), CURVE);
    assert_eq!(blocks(&[]), "");
}

#[test]
fn a_run_that_was_stopped_with_its_release_has_nothing_against_it() {
    let mut run = run();
    run.spec.terminate = true;
    assert_eq!(exit_code(&run), 1, "what failed has failed");
    let status = run.status.as_mut().unwrap();
    status.verdict = Some(Verdict::Inconclusive);
    status.reason = Some("errors: ended after 11 of 1000 measurements".to_owned());
    assert_eq!(exit_code(&run), 0);
    assert!(page(&run, false).contains("Verdict    STOPPED after 1m 15s"));
    assert!(list(vec![run.clone()]).contains(" Stopped "));
    run.spec.terminate = false;
    assert_eq!(exit_code(&run), 2, "it ended by itself and cannot tell");
}
