//! From the evidence of all comparisons to one answer.
//!
//! FAIL when the weighted average of the e-values crosses the boundary: the average is one process
//! again whatever the metrics share, so that no metric costs an alpha of its own; or when the exact
//! boundary is reached, on which a part of the evidence was staked. PASS when every
//! critical metric (every metric, where none is critical) is shown to be harmless. FAIL goes before
//! PASS. Else CONTINUE with what is missing, or INCONCLUSIVE when time is up or when time does not
//! help.

use jiff::Timestamp;

use super::exact::Exact;
use super::lack::{Lack, lack};
use super::metric::MetricState;
use super::plan::{Comparison, Kind};
use crate::analysis::sample::number;
use crate::api::Verdict;
use crate::stats::combine::{CRITICAL, average, culprits};
use crate::stats::conformal::{Boundary, Pair};
use crate::stats::interval::rate_ratio;

/// A metric with this E or more is shown as suspect.
const SUSPECT: f64 = 10.0;

/// The chance that a harmful metric is passed.
pub const BETA: f64 = 0.05;

/// How high the evidence must climb.
#[derive(Debug, Clone, PartialEq)]
pub enum Height {
    /// ln(1/alpha): what the model promises.
    Model,
    /// What the history of the service asks for.
    Calibrated {
        /// The boundary, point by point.
        pair: Box<Pair>,
        /// So many points are a tick.
        each: f64,
    },
}

/// The point of a boundary at a tick, both counted from 0; `each`: so many points are a tick.
pub(in crate::analysis) fn point(tick: usize, each: f64) -> usize {
    // A hair more, or the quotient of two whole numbers of seconds could fall short.
    libm::floor(tick as f64 * each + 1e-9).max(0.0) as usize
}

/// How one answer is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// The chance that a good release is failed.
    pub alpha: f64,
    /// The chance that a harmful metric is passed.
    pub beta: f64,
    /// How high the evidence must climb.
    pub height: Height,
    /// When an answer has to be there.
    pub ends: Option<Timestamp>,
}

impl Rules {
    /// The usual ones, without calibration.
    #[must_use]
    pub fn level(alpha: f64) -> Self {
        Self { alpha, beta: BETA, height: Height::Model, ends: None }
    }

    /// The height at a tick, counted from 0.
    #[must_use]
    pub fn at(&self, tick: usize) -> f64 {
        match &self.height {
            Height::Model => Boundary::model(self.alpha).at(tick),
            Height::Calibrated { pair, each } => pair.at(point(tick, *each)),
        }
    }

    fn crossed(&self, tick: usize, log_e: f64) -> bool {
        match &self.height {
            Height::Model => Boundary::model(self.alpha).crossed(tick, log_e),
            Height::Calibrated { pair, each } => pair.crossed(point(tick, *each), log_e),
        }
    }
}

/// One comparison and its state.
#[derive(Debug, Clone, Copy)]
pub struct Metric<'a> {
    /// What is compared.
    pub of: &'a Comparison,
    /// What was seen.
    pub state: &'a MetricState,
}

/// One answer for all comparisons of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The answer.
    pub verdict: Verdict,
    /// Why, with the numbers.
    pub reason: String,
    /// The metrics that the failure is blamed on.
    pub culprits: Vec<String>,
    /// The metrics whose evidence is high and proves nothing yet.
    pub suspects: Vec<String>,
    /// What is missing, metric by metric.
    pub lacks: Vec<Lack>,
    /// ln of the combined E.
    pub log_e: f64,
    /// ln at which the run fails.
    pub log_boundary: f64,
    /// For a failure: what was reached, and from where on it is enough.
    pub enough: String,
}

impl Judgement {
    /// Estimated minutes to an answer: those of the slowest metric, unless one has no end.
    #[must_use]
    pub fn minutes(&self) -> Option<i32> {
        let minutes: Option<Vec<f64>> = self.lacks.iter().map(|lack| lack.minutes).collect();
        let longest = minutes?.into_iter().reduce(f64::max)?;
        (longest < 1e6).then(|| libm::ceil(longest) as i32)
    }

    /// What is missing, in a sentence.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        let lacks: Vec<_> = self.lacks.iter().map(ToString::to_string).collect();
        (!lacks.is_empty()).then(|| lacks.join("; "))
    }
}

/// The answer at `now`. All metrics are read at the same tick.
#[must_use]
pub fn judge(metrics: &[Metric<'_>], rules: &Rules, now: Timestamp) -> Judgement {
    let log_es: Vec<f64> = metrics.iter().map(|m| m.state.log_e(m.of)).collect();
    let weight = |of: &Comparison| of.weight * if of.critical { CRITICAL } else { 1.0 };
    let weights: Vec<f64> = metrics.iter().map(|m| weight(m.of)).collect();
    let log_e = average(&log_es, &weights);
    let ticks = metrics.iter().map(|m| m.state.ticks).max().unwrap_or(0);
    let tick = usize::try_from(ticks.saturating_sub(1)).unwrap_or(0);
    let named = |positions: Vec<usize>| -> Vec<String> {
        positions.iter().filter_map(|i| metrics.get(*i)).map(|m| m.of.name.clone()).collect()
    };
    let suspects = (0..metrics.len())
        .filter(|i| log_es.get(*i).is_some_and(|log_e| *log_e >= libm::log(SUSPECT)))
        .collect();
    let log_boundary = rules.at(tick);
    let mut judgement = Judgement {
        verdict: Verdict::Continue,
        reason: String::new(),
        culprits: Vec::new(),
        suspects: named(suspects),
        lacks: Vec::new(),
        log_e,
        log_boundary,
        enough: String::new(),
    };
    let by_evidence = rules.crossed(tick, log_e).then(|| {
        let enough = format!("evidence e^{log_e:.1}, enough from e^{log_boundary:.1}");
        (blamed(&log_es, rules.alpha), enough)
    });
    let exact = || {
        let won = |m: &Metric<'_>| m.state.exact.as_ref().and_then(Exact::won);
        metrics.iter().enumerate().find_map(|(i, m)| Some((vec![i], won(m)?)))
    };
    if let Some((blamed, enough)) = by_evidence.or_else(exact) {
        let told: Vec<_> = blamed.iter().filter_map(|i| metrics.get(*i)).map(describe).collect();
        judgement.verdict = Verdict::Fail;
        judgement.reason = format!("{}; {enough}", told.join("; "));
        judgement.enough = enough;
        judgement.culprits = named(blamed);
        judgement.suspects.clear();
        return judgement;
    }
    let any_critical = metrics.iter().any(|m| m.of.critical);
    let needed: Vec<&Metric<'_>> =
        metrics.iter().filter(|m| m.of.critical || !any_critical).collect();
    judgement.lacks = needed.iter().filter_map(|m| lack(m, rules, now)).collect();
    (judgement.verdict, judgement.reason) = not_failed(&needed, &judgement, rules, now);
    judgement
}

/// Whom to blame: the metrics that e-BH names, or the one with the most evidence.
fn blamed(log_es: &[f64], alpha: f64) -> Vec<usize> {
    let named = culprits(log_es, alpha);
    if !named.is_empty() {
        return named;
    }
    let most = log_es.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    most.map(|(i, _)| i).into_iter().collect()
}

fn not_failed(
    needed: &[&Metric<'_>],
    judgement: &Judgement,
    rules: &Rules,
    now: Timestamp,
) -> (Verdict, String) {
    if needed.is_empty() {
        return (Verdict::Inconclusive, "nothing is compared".to_owned());
    }
    let Some(missing) = judgement.missing() else {
        let told: Vec<_> = needed.iter().map(|m| proven(m)).collect();
        return (Verdict::Pass, told.join("; "));
    };
    if judgement.lacks.iter().all(|lack| lack.lasting) {
        return (Verdict::Inconclusive, format!("more time does not help: {missing}"));
    }
    if rules.ends.is_some_and(|ends| ends <= now) {
        return (Verdict::Inconclusive, format!("time is up: {missing}"));
    }
    (Verdict::Continue, missing)
}

/// `errors less than 1.5 times: 0.98 times, 95% interval 0.9 to 1.1`.
fn proven(metric: &Metric<'_>) -> String {
    let harmful = metric.state.fixed.map_or(1.0, |fixed| fixed.harmful);
    format!("{} is shown to change by less than {harmful} times", describe(metric))
}

impl Metric<'_> {
    /// What was seen, in a line.
    #[must_use]
    pub fn describe(&self) -> String {
        describe(self)
    }
}

/// `errors: 51 of 1000 (5.1%) against 90 of 9000 (1%), 5.1 times, 95% interval 3.6 to 7.1`.
fn describe(metric: &Metric<'_>) -> String {
    let Metric { of, state } = metric;
    let name = &of.name;
    let above = state.rarest_boundary(of);
    let Some((canary, stable)) = state.totals(of, above) else {
        let evidence = state.evidence(of, 0.0);
        let level = |arm: Option<crate::api::analysis_run::ArmEvidence>| {
            arm.and_then(|arm| arm.gauges.get("mean").copied()).map_or("?".to_owned(), rounded)
        };
        return format!("{name}: {} against {}", level(evidence.canary), level(evidence.stable));
    };
    let side = |arm: crate::stats::rates::Arm| match of.kind {
        Kind::Ratio | Kind::Histogram => {
            let share = rounded(100.0 * arm.bad / arm.exposure);
            format!("{} of {} ({share}%)", rounded(arm.bad), rounded(arm.exposure))
        }
        Kind::Count { .. } | Kind::Gauge => {
            format!("{} in {}", rounded(arm.bad), rounded(arm.exposure))
        }
    };
    let mut text = format!("{name}: {} against {}", side(canary), side(stable));
    let (canary, stable) = state.alike(of, above).unwrap_or((canary, stable));
    if stable.bad > 0.0 && canary.exposure > 0.0 {
        let ratio = canary.bad / canary.exposure * stable.exposure / stable.bad;
        text.push_str(&format!(", {} times", rounded(ratio)));
    }
    if let Some((low, high)) = rate_ratio(canary, stable, 0.95) {
        text.push_str(&format!(", 95% interval {} to {}", rounded(low), rounded(high)));
    }
    if let Some(last) = state.quantiles(of).last() {
        let (from, to) = (rounded(last.stable), rounded(last.canary));
        text.push_str(&format!(", {} {from} -> {to}", last.quantile));
    }
    let (canary, stable) = state.arms();
    for (name, arm) in [("canary", canary), ("stable", stable)] {
        if arm.counted() < arm.pods {
            text.push_str(&format!(", {} of {} {name} pods counted", arm.counted(), arm.pods));
        }
    }
    text
}

/// Three digits, and whole numbers whole.
pub(crate) fn rounded(value: f64) -> String {
    if !value.is_finite() || value.fract() == 0.0 {
        return number(value);
    }
    let digits = 2 - libm::floor(libm::log10(value.abs())) as i32;
    let scale = libm::pow(10.0, f64::from(digits.clamp(0, 12)));
    number(libm::round(value * scale) / scale)
}
