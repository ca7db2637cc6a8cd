//! One metric's label: the interval of the shift first, the size of the effect second.

use std::collections::BTreeMap;
use std::f64::consts::PI;

use serde::Serialize;

use super::config::{Direction, Measure, NanStrategy, Settings, Switches};
use super::quirk::{Quirk, QuirkKind};
use super::transform::Statistics;
use crate::stats::quantile::mean;
use crate::stats::rank::{self, AllTied, Sample, Shift};
use crate::stats::zeroin::Tolerance;

/// Kayenta's tolerance, in whatever unit the metric has.
const ABSOLUTE: Tolerance = Tolerance::Absolute(1e-4);

/// What replaces it when the unit shall not matter.
const RELATIVE: Tolerance = Tolerance::Relative(1e-9);

/// A metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Label {
    /// No harmful change was seen.
    Pass,
    /// The canary is higher.
    High,
    /// The canary is lower.
    Low,
    /// No data, and there had to be some.
    NodataFailMetric,
    /// No data.
    Nodata,
    /// The judgement failed.
    Error,
}

/// One metric's judgement.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricReport {
    /// The metric.
    pub name: String,
    /// What tells several series of it apart.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The groups it counts in.
    pub groups: Vec<String>,
    /// Judged and shown, but not counted.
    pub muted: bool,
    /// The label.
    #[serde(rename = "classification")]
    pub label: Label,
    /// Why.
    #[serde(rename = "classificationReason", skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// This alone makes the score 0 when the label is not `Pass`.
    pub critical: bool,
    /// Mean of the canary over mean of the baseline; NaN when a mean is 0.
    pub deviation: f64,
    /// The interval of the shift and its estimate, when it came to that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shift: Option<Interval>,
    /// The baseline's values.
    pub control: Statistics,
    /// The canary's values.
    pub experiment: Statistics,
}

/// How far the canary lies above the baseline, at 98%.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// The estimate.
    pub estimate: f64,
}

pub(super) struct Classified {
    pub report: MetricReport,
    pub quirks: Vec<Quirk>,
}

/// The label of a metric.
pub(super) fn classify(
    name: &str,
    control: &[f64],
    experiment: &[f64],
    settings: &Settings,
    switches: Switches,
) -> Classified {
    let (Some(y), Some(x)) = (Sample::new(control.to_vec()), Sample::new(experiment.to_vec()))
    else {
        return without_data(name, settings);
    };
    if same(x.values(), y.values()) {
        return plain(Label::Pass, Some("The Canary and Baseline data are identical".to_owned()));
    }
    if constant(&x) && constant(&y) && x.min() == y.min() {
        return plain(Label::Pass, None);
    }
    let noise = constant(&x) && constant(&y);
    let experiment = if noise { noisy(experiment, 1) } else { experiment.to_vec() };
    let control = if noise { noisy(control, 2) } else { control.to_vec() };
    let tolerance = if switches.relative_tolerance { RELATIVE } else { ABSOLUTE };
    let mut classified = match compare(name, &control, &experiment, settings, tolerance) {
        Ok(classified) => classified,
        Err(_) => failed(settings, switches),
    };
    if noise {
        let message = format!("both arms are constant ({} and {})", y.min(), x.min());
        classified.quirks.push(quirk(QuirkKind::NoiseAdded, name, message));
    }
    if tolerance == ABSOLUTE {
        let other = compare(name, &control, &experiment, settings, RELATIVE);
        let other = other.map_or(Label::Error, |other| other.report.label);
        if other != classified.report.label {
            let message = format!(
                "{:?}, but {other:?} in a unit in which 1e-4 is little",
                classified.report.label
            );
            classified.quirks.push(quirk(QuirkKind::AbsoluteTolerance, name, message));
        }
    }
    classified
}

fn quirk(kind: QuirkKind, metric: &str, message: String) -> Quirk {
    Quirk { kind, metric: Some(metric.to_owned()), group: None, message }
}

fn plain(label: Label, reason: Option<String>) -> Classified {
    let report = MetricReport {
        name: String::new(),
        tags: BTreeMap::new(),
        groups: Vec::new(),
        muted: false,
        label,
        reason,
        critical: false,
        deviation: 1.0,
        shift: None,
        control: Statistics::default(),
        experiment: Statistics::default(),
    };
    Classified { report, quirks: Vec::new() }
}

fn without_data(name: &str, settings: &Settings) -> Classified {
    let reason = Some(format!("Missing data for {name}"));
    match settings.nan {
        NanStrategy::Replace => {
            let mut passed = plain(Label::Pass, None);
            let message = "one side has no data at all and nanStrategy is replace".to_owned();
            passed.quirks.push(quirk(QuirkKind::MissingPassed, name, message));
            passed
        }
        NanStrategy::Remove if settings.must_have_data && !settings.critical => {
            plain(Label::NodataFailMetric, reason)
        }
        NanStrategy::Remove => {
            let mut missing = plain(Label::Nodata, reason);
            missing.report.critical = settings.critical;
            missing
        }
    }
}

fn failed(settings: &Settings, switches: Switches) -> Classified {
    let mut failed = plain(Label::Error, Some("Metric Classification Failed".to_owned()));
    failed.report.critical = switches.fail_closed_errors && settings.critical;
    failed
}

fn same(x: &[f64], y: &[f64]) -> bool {
    x.len() == y.len() && x.iter().zip(y).all(|(a, b)| a == b)
}

fn constant(sample: &Sample) -> bool {
    sample.min() == sample.max()
}

/// The rank interval, then the size of the effect.
fn compare(
    name: &str,
    control: &[f64],
    experiment: &[f64],
    settings: &Settings,
    tolerance: Tolerance,
) -> Result<Classified, AllTied> {
    let (Some(y), Some(x)) = (Sample::new(control.to_vec()), Sample::new(experiment.to_vec()))
    else {
        return Err(AllTied);
    };
    let Shift { low, high, estimate } = rank::shift(&x, &y, settings.z, tolerance)?;
    let deviation = mean_ratio(control, experiment);
    let effect = match settings.measure {
        Measure::MeanRatio => deviation,
        Measure::Cles => rank::superiority(&x, &y),
    };
    let bound = settings.tolerance * estimate.abs();
    let (up, down) = match settings.direction {
        Direction::Increase => (true, false),
        Direction::Decrease => (false, true),
        Direction::Either => (true, true),
    };
    let (fall, rise) = settings.allowed;
    let label = if up && low > bound && (effect.is_nan() || effect >= rise) {
        Label::High
    } else if down && high < -bound && (effect.is_nan() || effect <= fall) {
        Label::Low
    } else {
        Label::Pass
    };
    let (fall, rise) = settings.critical_effect;
    let grave = match label {
        Label::High => effect.is_nan() || effect >= rise,
        Label::Low => effect.is_nan() || effect <= fall,
        Label::Pass | Label::Nodata | Label::NodataFailMetric | Label::Error => false,
    };
    let critical = settings.critical && grave;
    let reason = match (label, critical) {
        (Label::Pass, _) => None,
        (label, true) => Some(format!("The metric {name} was classified as {label:?} (Critical)")),
        (label, false) => Some(format!("{name} was classified as {label:?}")),
    };
    let mut classified = plain(label, reason);
    let report = &mut classified.report;
    (report.critical, report.deviation) = (critical, deviation);
    report.shift = Some(Interval { low, high, estimate });
    if label != Label::Pass && effect.is_nan() {
        let message = "a mean is 0, so that the limits of effectSize are not looked at".to_owned();
        classified.quirks.push(quirk(QuirkKind::EffectSkipped, name, message));
    }
    let near = (up && low > 0.0 && low <= bound) || (down && high < 0.0 && high >= -bound);
    if label == Label::Pass && near {
        let message = format!(
            "the shift of {estimate} is significant, but its interval [{low}, {high}] comes nearer \
             to 0 than {bound}"
        );
        classified.quirks.push(quirk(QuirkKind::IntervalNearZero, name, message));
    }
    Ok(classified)
}

/// NaN when a mean is 0, which skips the limits of the effect.
fn mean_ratio(control: &[f64], experiment: &[f64]) -> f64 {
    let (control, experiment) = (mean(control), mean(experiment));
    if control == 0.0 || experiment == 0.0 { f64::NAN } else { experiment / control }
}

/// Gaussian noise of 1e-5 of the value. Kayenta draws it anew each time; here it is the same each
/// time, so that a judgement can be repeated.
fn noisy(values: &[f64], seed: u64) -> Vec<f64> {
    let mut state = seed;
    let mut uniform = || {
        // SplitMix64 (Steele, Lea, Flood 2014): the top 53 bits as a number in (0, 1].
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 11) + 1) as f64 / (1_u64 << 53) as f64
    };
    let noise = |value: &f64| {
        let radius = libm::sqrt(-2.0 * libm::log(uniform()));
        value + value * 1e-5 * radius * libm::cos(2.0 * PI * uniform())
    };
    values.iter().map(noise).collect()
}
