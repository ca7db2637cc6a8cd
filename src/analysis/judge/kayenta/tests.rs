//! Kayenta's own suites (`kayenta_golden.json`, spinnaker/kayenta a69573be, Apache-2.0), reports of
//! its users, and what must hold of any judgement.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};

use super::classify::classify;
use super::config::{Direction, Measure, NanStrategy};
use super::*;

const GOLDEN: &str = include_str!("../../../../tests/data/stats/kayenta_golden.json");

fn defaults() -> Settings {
    Settings::read(&mut Reader::new(None))
}

fn floats(values: &Value) -> Vec<f64> {
    values.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn pair_of(values: &Value) -> (f64, f64) {
    (values[0].as_f64().unwrap(), values[1].as_f64().unwrap())
}

#[test]
fn every_classification_of_kayentas_suite_is_the_same() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let cases = golden["classifier"].as_array().unwrap();
    assert_eq!(cases.len(), 23);
    for case in cases {
        let config = &case["config"];
        let confidence = config["conf"].as_f64().unwrap();
        let settings = Settings {
            direction: match config["direction"].as_str().unwrap() {
                "increase" => Direction::Increase,
                "decrease" => Direction::Decrease,
                _ => Direction::Either,
            },
            nan: match config["nan"].as_str().unwrap() {
                "replace" => NanStrategy::Replace,
                _ => NanStrategy::Remove,
            },
            critical: config["critical"].as_bool().unwrap(),
            measure: match config["measure"].as_str().unwrap() {
                "cles" => Measure::Cles,
                _ => Measure::MeanRatio,
            },
            allowed: pair_of(&config["allowed"]),
            critical_effect: pair_of(&config["crit"]),
            tolerance: config["tol"].as_f64().unwrap(),
            z: -crate::stats::special::normal_quantile((1.0 - confidence) / 2.0),
            ..defaults()
        };
        let (control, experiment) = (floats(&case["control"]), floats(&case["experiment"]));
        let name = case["name"].as_str().unwrap();
        let found = classify("cpu", &control, &experiment, &settings, Switches::default()).report;
        match case["expect_label"].as_str() {
            Some(label) => assert_eq!(format!("{:?}", found.label), label, "{name}"),
            None => assert_eq!(found.reason.as_deref(), Some("Missing data for cpu"), "{name}"),
        }
        if let Some(critical) = case["expect_critical"].as_bool() {
            assert_eq!(found.critical, critical, "{name}");
        }
    }
}

/// A result as the scorer's suite makes it: group, label, critical.
type Row = (&'static str, Label, bool);

/// A group's weight.
type Weight = (&'static str, f64);

fn scored(weights: &[Weight], rows: &[Row]) -> (f64, Vec<QuirkKind>) {
    let results: Vec<_> = rows
        .iter()
        .map(|(group, label, critical)| {
            let (report, _) = judge_metric(None, &SeriesPair::default(), Switches::default());
            MetricReport {
                groups: vec![(*group).to_owned()],
                label: *label,
                critical: *critical,
                ..report
            }
        })
        .collect();
    let weights = weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect();
    let thresholds = Thresholds { pass: 95.0, marginal: 75.0 };
    let scored = score::score(&results, &weights, thresholds, Switches::default());
    (scored.score.score, scored.quirks.iter().map(|quirk| quirk.kind).collect())
}

#[test]
fn every_score_of_kayentas_suite_is_the_same() {
    use Label::{High, Low, Nodata, NodataFailMetric, Pass};
    let halves: &[_] = &[("a", 50.0), ("b", 50.0)];
    let cases: &[(&[Weight], &[Row], f64)] = &[
        (&[], &[("a", Pass, false)], 100.0),
        (&[], &[("a", High, false)], 0.0),
        (&[], &[("a", Pass, false), ("a", High, false)], 50.0),
        (&[], &[("a", Pass, false), ("a", High, false), ("a", Low, false)], 33.33),
        (
            &[("a", 75.0), ("b", 25.0)],
            &[("a", Pass, false), ("a", Pass, false), ("b", High, false)],
            75.0,
        ),
        (halves, &[("a", Pass, false), ("a", High, false), ("b", High, false)], 25.0),
        (halves, &[("a", Pass, false), ("a", Nodata, false), ("b", High, false)], 50.0),
        (&[], &[("a", Nodata, false)], 0.0),
        (&[], &[("a", Pass, false), ("a", High, true)], 0.0),
        (&[], &[("a", Low, false), ("a", Pass, true)], 50.0),
        (&[], &[("a", Pass, false), ("a", Pass, false), ("a", Nodata, true)], 0.0),
        (
            &[("a", 15.0), ("b", 85.0)],
            &[("a", High, false), ("a", Low, false), ("a", Pass, false), ("b", High, false)],
            5.0,
        ),
        (&[], &[("a", Pass, false), ("a", NodataFailMetric, false)], 50.0),
    ];
    for (weights, rows, expected) in cases {
        assert_eq!(scored(weights, rows).0, *expected, "{rows:?}");
    }
}

#[test]
fn groups_that_could_not_be_judged_count_100_and_weights_of_absent_groups_are_lost() {
    use Label::{Error, High, Pass};
    let rows: &[Row] = &[("a", Error, false), ("b", High, false)];
    let (score, quirks) = scored(&[("a", 60.0), ("b", 40.0)], rows);
    assert_eq!(score, 60.0);
    assert_eq!(quirks, [QuirkKind::ErrorIgnored, QuirkKind::EmptyGroupCounts100]);
    let (score, quirks) = scored(&[("a", 60.0), ("absent", 40.0)], &[("a", Pass, false)]);
    assert_eq!(score, 60.0);
    assert_eq!(quirks, [QuirkKind::AbsentGroupWeightLost]);
}

#[test]
fn outliers_are_fenced_by_the_wider_of_two_rules() {
    let fence = |values: &[f64], factor| {
        let settings = Settings { outliers: Some(factor), ..defaults() };
        transform::transform(values, &settings)
    };
    let mut spike = vec![1.0; 11];
    spike[5] = 20.0;
    // With so few values the 99th percentile lies between 1 and 20, and Tukey's fence at 1.
    assert_eq!(fence(&spike, 3.0), vec![1.0; 10]);
    let near: Vec<f64> = (0..200).map(f64::from).collect();
    assert_eq!(fence(&near, 3.0), near);
    assert!(fence(&[], 1.5).is_empty());
}

#[test]
fn nan_is_removed_or_becomes_0_in_each_arm_by_itself() {
    let values = [1.0, f64::NAN, f64::INFINITY];
    assert_eq!(transform::transform(&values, &defaults()), [1.0, f64::INFINITY]);
    let replace = Settings { nan: NanStrategy::Replace, ..defaults() };
    assert_eq!(transform::transform(&values, &replace), [1.0, 0.0, f64::INFINITY]);
    assert_eq!(
        Statistics::of(&[1.0]),
        Statistics { min: 1.0, max: 1.0, mean: 1.0, std: 0.0, count: 1 }
    );
    assert_eq!(Statistics::of(&[]), Statistics::default());
}

fn config(metrics: Value) -> CanaryConfig {
    let config = json!({
        "id": "9f1c", "name": "web", "description": "", "configVersion": "1.0",
        "applications": ["web"], "createdTimestamp": 1514845842000_i64,
        "judge": { "name": "NetflixACAJudge-v1.0", "judgeConfigurations": {} },
        "metrics": metrics,
        "templates": { "byPod": "pod=~\"${scope}-.*\"" },
        "classifier": {
            "groupWeights": { "errors": 60, "saturation": 40 },
            "scoreThresholds": { "pass": 95, "marginal": 75 }
        }
    });
    CanaryConfig::read(&config).unwrap()
}

fn metric(name: &str, group: &str, canary: Value) -> Value {
    json!({
        "name": name,
        "query": { "type": "prometheus", "metricName": name, "labelBindings": [] },
        "groups": [group],
        "analysisConfigurations": { "canary": canary },
        "scopeName": "default"
    })
}

const THRESHOLDS: Thresholds = Thresholds { pass: 95.0, marginal: 75.0 };

fn ramp(name: &str, from: f64, to: f64) -> SeriesPair {
    let around = |level: f64| (0..30).map(|i| level + f64::from(i * 7 % 30) / 30.0).collect();
    SeriesPair {
        metric: name.to_owned(),
        control: around(from),
        experiment: around(to),
        ..SeriesPair::default()
    }
}

#[test]
fn a_canary_config_is_read_unchanged_and_judged() {
    let config = config(json!([
        metric(
            "errors",
            "errors",
            json!({ "direction": "increase", "critical": true,
            "effectSize": { "allowedIncrease": 1.2, "criticalIncrease": 9.0 } })
        ),
        metric("cpu", "saturation", json!({ "direction": "either", "nanStrategy": "replace" })),
    ]));
    assert_eq!(config.classifier.as_ref().unwrap().score_thresholds, Some(THRESHOLDS));
    let pairs = [ramp("errors", 5.0, 25.0), ramp("cpu", 5.0, 5.0)];
    let report = judge(&config, THRESHOLDS, &pairs).unwrap();
    let labels: Vec<_> = report.results.iter().map(|r| (r.label, r.critical)).collect();
    assert_eq!(labels, [(Label::High, false), (Label::Pass, false)]);
    assert_eq!(report.score.score, 40.0);
    assert_eq!(report.score.classification, ScoreLabel::Fail);
    assert_eq!(report.kayenta_quirks, []);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["results"][0]["classification"], "High");
    assert_eq!(json["groupScores"][1]["score"], 100.0);
}

#[test]
fn what_is_not_understood_is_refused_or_named() {
    let mut other = json!({ "judge": { "name": "dredd-v1.0" }, "metrics": [] });
    assert_eq!(CanaryConfig::read(&other), Err(KayentaError::OtherJudge("dredd-v1.0".to_owned())));
    other["metrics"] = json!("all");
    assert!(matches!(CanaryConfig::read(&other), Err(KayentaError::Unreadable(_))));
    let config = config(json!([metric("errors", "errors", json!({ "direction": "up" }))]));
    let unknown = judge(&config, THRESHOLDS, &[ramp("latency", 1.0, 1.0)]);
    assert_eq!(unknown, Err(KayentaError::UnknownMetric("latency".to_owned())));
    let report = judge(&config, THRESHOLDS, &[ramp("errors", 25.0, 5.0)]).unwrap();
    assert_eq!(report.results[0].label, Label::Low, "an unknown direction is either");
    assert_eq!(report.kayenta_quirks[0].kind, QuirkKind::UnknownSetting);
    assert_eq!(
        report.kayenta_quirks[0].message,
        "canary.direction is \"up\", which Kayenta takes for either"
    );
    for (strategy, factor, refused) in
        [("remove", json!(0), true), ("remove", json!("NaN"), true), ("keep", json!(0), false)]
    {
        let fences = json!({ "outliers": { "strategy": strategy, "outlierFactor": factor } });
        let found = CanaryConfig::read(&json!({ "metrics": [metric("errors", "errors", fences)] }));
        assert_eq!(matches!(found, Err(KayentaError::OutlierFactor { .. })), refused, "{found:?}");
    }
    let crossed = Thresholds { pass: 50.0, marginal: 75.0 };
    assert!(matches!(judge(&config, crossed, &[]), Err(KayentaError::Thresholds { .. })));
}

fn one(canary: Value, control: &[f64], experiment: &[f64]) -> (MetricReport, Vec<QuirkKind>) {
    let pair = SeriesPair {
        metric: "m".to_owned(),
        control: control.to_vec(),
        experiment: experiment.to_vec(),
        ..SeriesPair::default()
    };
    let (report, quirks) = judge_metric(Some(&canary), &pair, Switches::default());
    (report, quirks.iter().map(|quirk| quirk.kind).collect())
}

#[test]
fn seven_of_ten_minutes_a_hundred_times_worse_pass_and_the_report_says_why() {
    let mut experiment = vec![100.0; 7];
    experiment.extend([1.0; 3]);
    let (report, quirks) = one(json!({}), &[1.0; 10], &experiment);
    assert_eq!(report.label, Label::Pass);
    assert_eq!(report.shift.unwrap().low, 6.825_022_991_538_781e-5);
    assert_eq!(report.shift.unwrap().high, 99.0);
    assert!((report.shift.unwrap().estimate - 98.999_929_0).abs() < 1e-7);
    assert!(quirks.contains(&QuirkKind::IntervalNearZero), "{quirks:?}");
    let mut experiment = vec![100.0; 8];
    experiment.extend([1.0; 2]);
    assert_eq!(one(json!({}), &[1.0; 10], &experiment).0.label, Label::High);
}

#[test]
fn a_mean_of_0_skips_the_limits_of_the_effect() {
    let canary = json!({ "effectSize": { "allowedIncrease": 1e9 } });
    let (report, quirks) = one(canary.clone(), &[0.0; 5], &[54.9, 54.5, 55.1, 55.6, 57.4]);
    assert_eq!((report.label, quirks), (Label::High, vec![QuirkKind::EffectSkipped]));
    assert!(report.deviation.is_nan());
    let (report, _) = one(canary, &[1.0; 5], &[54.9, 54.5, 55.1, 55.6, 57.4]);
    assert_eq!(report.label, Label::Pass);
}

#[test]
fn missing_data_passes_or_fails_as_the_table_says() {
    let some = [1.0, 2.0, 3.0];
    let label = |canary: Value| {
        let (report, quirks) = one(canary, &some, &[f64::NAN]);
        (report.label, report.critical, quirks)
    };
    assert_eq!(label(json!({})), (Label::Nodata, false, vec![]));
    assert_eq!(label(json!({ "critical": true })), (Label::Nodata, true, vec![]));
    let must = json!({ "mustHaveData": true });
    assert_eq!(label(must), (Label::NodataFailMetric, false, vec![]));
    let must = json!({ "mustHaveData": true, "critical": true });
    assert_eq!(label(must), (Label::Nodata, true, vec![]));
    let (report, quirks) = one(json!({ "nanStrategy": "replace" }), &some, &[]);
    assert_eq!((report.label, quirks), (Label::Pass, vec![QuirkKind::MissingPassed]));
}

#[test]
fn one_point_in_each_arm_fails_open_unless_errors_fail_closed() {
    let canary = json!({ "critical": true });
    let (report, quirks) = one(canary.clone(), &[3.0], &[5.0]);
    assert_eq!((report.label, report.critical), (Label::Error, false));
    assert!(quirks.contains(&QuirkKind::NoiseAdded));
    let mut config = config(json!([metric("errors", "errors", canary)]));
    let pair = SeriesPair {
        metric: "errors".to_owned(),
        control: vec![3.0],
        experiment: vec![5.0],
        ..SeriesPair::default()
    };
    let open = judge(&config, THRESHOLDS, std::slice::from_ref(&pair)).unwrap();
    assert_eq!(open.score.score, 60.0);
    let kinds: Vec<_> = open.kayenta_quirks.iter().map(|quirk| quirk.kind).collect();
    assert!(kinds.contains(&QuirkKind::ErrorIgnored));
    assert!(kinds.contains(&QuirkKind::EmptyGroupCounts100));
    config.judge.as_mut().unwrap().judge_configurations = json!({ "failClosedErrors": true });
    let closed = judge(&config, THRESHOLDS, &[pair]).unwrap();
    assert_eq!(closed.score.score, 0.0);
    assert_eq!(closed.score.reason.as_deref(), Some("Canary Failed: Metric Classification Failed"));
}

#[test]
fn muted_metrics_are_shown_and_not_counted() {
    let muted = json!({ "muted": true });
    let config = config(json!([
        metric("errors", "errors", json!({})),
        metric("cpu", "saturation", muted.clone()),
        metric("memory", "saturation", muted),
    ]));
    let none = |name: &str| SeriesPair { metric: name.to_owned(), ..SeriesPair::default() };
    let pairs = [ramp("errors", 5.0, 5.0), none("cpu"), none("memory")];
    let report = judge(&config, THRESHOLDS, &pairs).unwrap();
    assert_eq!(report.score.score, 60.0);
    assert_eq!(report.score.reason, None, "two of three have no data, but they are muted");
    let kinds: Vec<_> = report.kayenta_quirks.iter().map(|quirk| quirk.kind).collect();
    let muted = QuirkKind::MutedNotCounted;
    assert_eq!(kinds, [muted, muted, QuirkKind::AbsentGroupWeightLost]);
}

#[test]
fn a_small_unit_hides_a_regression_and_the_report_says_so() {
    let ramp = ramp("m", 5.0, 5.9);
    let scaled = |v: &[f64]| v.iter().map(|v| v * 1e-6).collect::<Vec<_>>();
    let (report, quirks) = one(json!({}), &scaled(&ramp.control), &scaled(&ramp.experiment));
    assert_eq!(report.label, Label::Pass);
    assert!(quirks.contains(&QuirkKind::AbsoluteTolerance), "{quirks:?}");
    assert_eq!(one(json!({}), &ramp.control, &ramp.experiment).0.label, Label::High);
}

fn label(control: &[f64], experiment: &[f64], unit: f64) -> Label {
    let scaled = |v: &[f64]| v.iter().map(|v| v * unit).collect::<Vec<_>>();
    let pair = SeriesPair {
        metric: "m".to_owned(),
        control: scaled(control),
        experiment: scaled(experiment),
        ..SeriesPair::default()
    };
    let switches = Switches { relative_tolerance: true, ..Switches::default() };
    judge_metric(None, &pair, switches).0.label
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        rng_seed: RngSeed::Fixed(3),
        ..ProptestConfig::default()
    })]

    #[test]
    fn with_relative_tolerance_no_unit_changes_a_label(
        control in prop::collection::vec(0.5..1.5_f64, 1..40),
        experiment in prop::collection::vec(0.5..1.5_f64, 1..40),
        shift in 0.0..0.6_f64,
        power in -9_i32..=9,
    ) {
        let experiment: Vec<f64> = experiment.iter().map(|v| v + shift).collect();
        let plain = label(&control, &experiment, 1.0);
        prop_assert_eq!(label(&control, &experiment, 2_f64.powi(power * 3)), plain);
        prop_assert_eq!(label(&control, &experiment, 10_f64.powi(power)), plain);
    }

    #[test]
    fn the_order_of_the_metrics_changes_nothing(
        levels in prop::collection::vec((0_usize..3, 0_u8..4), 1..8),
        turn in 0_usize..8,
    ) {
        let groups = ["errors", "saturation", "other"];
        let metrics: Vec<_> = levels
            .iter()
            .enumerate()
            .map(|(i, (group, _))| metric(&format!("m{i}"), groups[*group], json!({})))
            .collect();
        let config = config(Value::Array(metrics));
        let mut pairs: Vec<_> = levels
            .iter()
            .enumerate()
            .map(|(i, (_, level))| match level {
                0 => SeriesPair { metric: format!("m{i}"), ..SeriesPair::default() },
                level => ramp(&format!("m{i}"), 10.0, 10.0 * f64::from(*level)),
            })
            .collect();
        let before = judge(&config, THRESHOLDS, &pairs).unwrap();
        pairs.rotate_left(turn % levels.len());
        pairs.reverse();
        let after = judge(&config, THRESHOLDS, &pairs).unwrap();
        prop_assert_eq!(before.score, after.score);
        prop_assert_eq!(before.group_scores, after.group_scores);
        let sorted = |mut results: Vec<MetricReport>| {
            results.sort_by(|a, b| a.name.cmp(&b.name));
            results.into_iter().map(|r| (r.name, r.label, r.critical)).collect::<Vec<_>>()
        };
        prop_assert_eq!(sorted(before.results), sorted(after.results));
    }
}
