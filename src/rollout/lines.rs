//! Lines of analysis runs: which run goes on with whose evidence, and how many share the release's
//! risk.
//!
//! The steps of a release, with the watch after the last one, are one line for each set of metrics;
//! each background analysis is one. A run goes on with the last run of its line that compared the
//! same two versions, whatever the release or the attempt was called, unless that one failed the
//! release: then a person asked for another try, which begins anew and may risk less.

use jiff::Timestamp;

use super::Draft;
use crate::analysis::{Verdict, flatten, verdict};
use crate::api::analysis_run::RunRelease;
use crate::api::status::ReleaseStatus;
use crate::api::{AnalysisPhase, AnalysisRun};
use crate::spec::{self, AnalysisStanza};

/// How many lines of the plan compare anything.
pub(super) fn count(d: &Draft<'_>, plan: &spec::Plan) -> i32 {
    let steps = plan.steps.iter().filter_map(|step| step.analysis.as_ref());
    let bake = plan.bake.iter().filter_map(|bake| bake.analysis.as_ref());
    let mut different: Vec<&AnalysisStanza> = Vec::new();
    for stanza in steps.chain(bake) {
        let same = |other: &&AnalysisStanza| {
            (&other.templates, &other.args) == (&stanza.templates, &stanza.args)
        };
        if !different.iter().any(same) {
            different.push(stanza);
        }
    }
    let compares = |stanza: &&AnalysisStanza| {
        let found = flatten(&stanza.templates, |reference| {
            d.s.templates.get(&(reference.cluster, reference.name.clone()))
        });
        let mut metrics = found.iter().flatten().flat_map(|template| &template.spec.metrics);
        metrics.any(|metric| metric.compare.is_some())
    };
    let lines = different.into_iter().chain(&plan.background).filter(compares).count();
    i32::try_from(lines).unwrap_or(i32::MAX)
}

/// Tells a new run with whose evidence it goes on, and what it may risk.
pub(super) fn join(d: &Draft<'_>, lines: i32, run: &mut AnalysisRun) {
    if !compares(run) {
        return;
    }
    let last = d.s.runs.values().filter(|other| same_line(other, run)).max_by_key(begun);
    let tries = last.and_then(|last| last.spec.release.as_ref()?.tries).unwrap_or(1);
    let (continues, tries) = match last {
        Some(last) if failed(last) => (None, tries.saturating_add(1)),
        Some(last) => (last.metadata.name.clone(), tries),
        None => (None, tries),
    };
    if let Some(release) = &mut run.spec.release {
        release.continues = continues;
        release.lines = Some(lines).filter(|lines| *lines > 1);
        release.tries = Some(tries).filter(|tries| *tries > 1);
    }
}

/// Whether a release under way may still go on with the evidence of this run: of those that compared
/// its two versions it is the last one of its line. Without it the next step would begin anew, with all
/// of the risk.
#[must_use]
pub fn is_needed<'a>(
    release: &ReleaseStatus,
    run: &AnalysisRun,
    mut all: impl Iterator<Item = &'a AnalysisRun>,
) -> bool {
    let of_release = run.spec.release.as_ref().is_some_and(|own| {
        own.stable.as_ref() == Some(&release.stable) && own.canary == release.canary
    });
    of_release && compares(run) && !all.any(|o| same_line(o, run) && begun(&o) > begun(&run))
}

fn compares(run: &AnalysisRun) -> bool {
    run.spec.metrics.iter().any(|metric| metric.compare.is_some())
}

/// Whether two runs compare the same two versions with the same questions, in one line.
fn same_line(one: &AnalysisRun, other: &AnalysisRun) -> bool {
    let versions = |a: &RunRelease, b: &RunRelease| {
        (&a.stable, &a.canary) == (&b.stable, &b.canary) && line(a) == line(b)
    };
    let both = one.spec.release.as_ref().zip(other.spec.release.as_ref());
    both.is_some_and(|(a, b)| versions(a, b))
        && (&one.spec.metrics, &one.spec.args) == (&other.spec.metrics, &other.spec.args)
}

/// When it began; one that has not is before all others.
fn begun(run: &&AnalysisRun) -> (Option<Timestamp>, Option<String>) {
    let started = run.status.as_ref().and_then(|status| status.started_at.as_ref());
    (started.map(|at| at.0), run.metadata.name.clone())
}

/// A background analysis is told by its scope; all steps are one.
fn line(release: &RunRelease) -> Option<&str> {
    release.is_background().then_some(release.scope.as_str())
}

/// Whether the run failed the release by a comparison.
fn failed(run: &AnalysisRun) -> bool {
    let results = run.status.iter().flat_map(|status| &status.metric_results);
    let mut bad = results.filter(|result| result.phase == Some(AnalysisPhase::Failed));
    let compares = |name: &str| {
        run.spec.metrics.iter().any(|metric| metric.name == name && metric.compare.is_some())
    };
    matches!(verdict(run), Verdict::Fail { .. }) && bad.any(|result| compares(&result.name))
}
