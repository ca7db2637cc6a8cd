//! What is asked of the past for the comparisons of a run, and what a run takes from the answers.

use sha2::{Digest, Sha256};

use super::learn::Asked;
use super::learnt::Learnt;
use super::terms::{Terms, Wanted, terms};
use crate::analysis::Secrets;
use crate::analysis::arms::{Arm, Arms};
use crate::analysis::compare::{self, CheckedCompare};
use crate::analysis::judge::sequential::{Comparison, Kind};
use crate::analysis::metric::{self, Checked, CheckedMetric};
use crate::api::AnalysisRunSpec;
use crate::api::analysis_run::RunCalibration;

/// Tells a comparison from others by all that its evidence depends on.
fn key(metric: &CheckedMetric, compare: &CheckedCompare) -> String {
    let CheckedCompare { comparison, parts, pod_label, .. } = compare;
    let Comparison { kind, direction, min_events, .. } = comparison;
    let tick = metric.interval.unwrap_or_default();
    let text = format!(
        "{kind:?} {direction:?} {min_events} {tick} {pod_label} {:?} {:?} {parts:?}",
        metric.source.named, metric.source.address
    );
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn compared(checked: &Checked) -> impl Iterator<Item = (&CheckedMetric, &CheckedCompare)> {
    checked.metrics.iter().filter_map(|metric| Some((metric, metric.compare.as_ref()?)))
}

/// What is asked of the past of `workload` for the comparisons of a run.
///
/// # Errors
/// When the spec is wrong, an argument comes from a Secret, or a query has no room for arms.
pub fn asked(spec: &AnalysisRunSpec, workload: &str) -> Result<Vec<Asked>, String> {
    let checked = metric::check(spec, &Secrets::default()).map_err(|error| error.to_string())?;
    let one = |(metric, compare): (&CheckedMetric, &CheckedCompare)| {
        let label = &compare.pod_label;
        if compare.by_version {
            let why = "its arms have a label of their own, and the past has one version only; leave \
                       compare.arms out, or the calibration";
            return Err(format!("{}: {why}", metric.name));
        }
        let arms = Arms::of_workload(label, workload).map_err(|error| error.to_string())?;
        let mut keep = vec![label.as_str()];
        if compare.comparison.kind == Kind::Histogram {
            keep.push("le");
        }
        let query = |part: &String| {
            let text = arms.select_raw(part, Arm::Stable, &keep);
            text.map_err(|error| format!("{}: {error}", metric.name))
        };
        Ok(Asked {
            key: key(metric, compare),
            comparison: compare.comparison.clone(),
            tick: metric.interval.unwrap_or_default(),
            pod_label: label.clone(),
            source: metric.source.clone(),
            queries: compare.parts.iter().map(query).collect::<Result<_, String>>()?,
        })
    };
    compared(&checked).map(one).collect()
}

/// The chance with which a run may fail a good release.
#[must_use]
pub fn risk(spec: &AnalysisRunSpec) -> f64 {
    compare::level(spec)
}

/// Why a run is not calibrated whose templates ask for nothing to be learnt.
pub const NOT_ASKED: &str = "the template has no calibration";

/// What a run takes from what was learnt, or why it takes nothing. `None` for a run that compares nothing
/// and asks for none, or that cannot be checked yet.
#[must_use]
pub fn begin(
    spec: &AnalysisRunSpec,
    secrets: &Secrets,
    learnt: Result<&Learnt, String>,
) -> Option<RunCalibration> {
    let checked = metric::check(spec, secrets).ok()?;
    if spec.calibration.is_none() && compared(&checked).next().is_none() {
        return None;
    }
    let learnt = match learnt {
        Ok(learnt) => learnt,
        Err(why) => {
            return Some(RunCalibration { message: format!("not calibrated: {why}"), terms: None });
        }
    };
    let named: Vec<(String, &CheckedMetric, &CheckedCompare)> = compared(&checked)
        .map(|(metric, compare)| (key(metric, compare), metric, compare))
        .collect();
    let wanted: Vec<Wanted<'_>> = named
        .iter()
        .map(|(key, metric, compare)| Wanted {
            key,
            comparison: &compare.comparison,
            tick: metric.interval.unwrap_or_default(),
            alone: metric.dry_run || is_advisory(spec, &metric.name),
        })
        .collect();
    let (terms, message) = terms(learnt, &wanted, risk(spec));
    Some(RunCalibration { message, terms: terms.write().ok() })
}

/// Whether the template says so; a gauge whose noise is unknown is advisory besides.
fn is_advisory(spec: &AnalysisRunSpec, name: &str) -> bool {
    spec.metrics.iter().any(|metric| metric.name == name && metric.advisory)
}

/// What a run has taken at its start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calibrated {
    /// The boundary and the noise.
    pub terms: Terms,
    /// What it is worth, in a sentence; nothing for a run that took nothing.
    pub says: Option<String>,
}

/// Gives the comparisons of a run what it has taken at its start. What cannot be read is as none.
pub(in crate::analysis) fn apply(
    spec: &AnalysisRunSpec,
    checked: &mut Checked,
    taken: Option<&RunCalibration>,
) -> Calibrated {
    let Some(RunCalibration { message, terms }) = taken else { return Calibrated::default() };
    let read = terms.as_deref().map_or(Ok(Terms::default()), Terms::read);
    let (terms, says) = match read {
        Ok(terms) => (terms, message.clone()),
        Err(error) => (Terms::default(), format!("not calibrated: {error}")),
    };
    for metric in &mut checked.metrics {
        let written = spec.metrics.iter().find(|written| written.name == metric.name);
        let (Some(compare), Some(written)) = (&mut metric.compare, written) else { continue };
        let was_blind = !compare.comparison.can_decide();
        let alone = metric.dry_run || written.advisory;
        compare.comparison.history = terms.history(&compare.comparison, alone);
        // A gauge whose noise is known decides.
        if was_blind && compare.comparison.can_decide() {
            metric.advisory = written.advisory;
        }
        let says_itself = written.compare.as_ref().is_some_and(|own| own.warm_up.is_some());
        if let Some(learnt) = terms.warm_up().filter(|_| !says_itself) {
            compare.warm_up = compare.warm_up.max(learnt);
        }
    }
    Calibrated { terms, says: Some(says) }
}
