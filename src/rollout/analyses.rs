//! The analysis runs of a release: started, read, ended. What a verdict does is decided here; how it
//! comes about is the business of `analysis`.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;

use super::types::{Action, Who};
use super::{Draft, back, lines, machine, overdue, status, steps};
use crate::analysis::{self, NamedTemplate, ReleaseContext, Verdict, build_run, flatten, verdict};
use crate::api::AnalysisRun;
use crate::api::analysis_run::{RunRelease, TtlStrategy};
use crate::api::rollout::OnInconclusive;
use crate::api::status::{ReleaseStatus, StepState, VerdictStatus};
use crate::spec::{self, AnalysisStanza, StepPlan};
use crate::workload::DeploymentView;

/// The scope of a background run; that of one with a name has it behind a slash.
const BACKGROUND: &str = "Background";

/// A background analysis that has passed begins again after this time.
const AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// Seconds that runs are kept: in the background and of steps those that passed, and all others.
/// Those in the background come again and again.
const KEPT: (i32, i32, i32) = (3_600, 86_400, 7 * 86_400);

/// Starts and reads the background analyses. True when one has decided something that ends this
/// pass.
pub(crate) fn background(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView) -> bool {
    let release = d.released();
    let flows = release.step > 0 || release.state >= StepState::StepMetricsAnalysis;
    if !flows {
        return false;
    }
    let mut waits = false;
    for stanza in plan.background.iter().filter(|stanza| stanza.starting_step <= release.step) {
        let (name, scope) = round(d, stanza);
        if d.released().overruled.contains(&name) {
            continue;
        }
        let about = stanza.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        match answer(d, &name, &scope, stanza, view, false) {
            Some(Verdict::Fail { reason }) => {
                let text = format!("background{about}: {reason}");
                steps::on_failure(d, plan, view, "AnalysisFailed", &text);
                return true;
            }
            Some(Verdict::Inconclusive { reason }) => {
                if inconclusive(d, plan, view, &format!("background{about}: {reason}")) {
                    return true;
                }
            }
            Some(Verdict::Pass | Verdict::Continue { .. }) => {}
            None => waits |= d.waiting.is_some(),
        }
    }
    waits
}

/// Which background analysis tells nothing now, and why. Without it no step ends.
pub(crate) fn blind(d: &mut Draft<'_>, plan: &spec::Plan) -> Option<String> {
    let step = d.released().step;
    let last = usize::try_from(step + 1).unwrap_or(0) >= plan.steps.len();
    let mut looking = plan.background.iter().filter(|stanza| stanza.starting_step <= step);
    looking.find_map(|stanza| {
        let (name, _) = round(d, stanza);
        if d.released().overruled.contains(&name) {
            return None;
        }
        let why = match d.s.runs.get(&name) {
            Some(run) => analysis::blind(run, last, d.now)?,
            None => "it has not begun".to_owned(),
        };
        Some(format!("the background analysis {name}: {why}"))
    })
}

/// The name and the scope of the run that a background analysis is at: the next one when the last
/// has passed, so that the release is watched to its end.
fn round(d: &mut Draft<'_>, stanza: &AnalysisStanza) -> (String, String) {
    let release = d.released();
    let (scope, own) = match &stanza.name {
        Some(name) => (format!("{BACKGROUND}/{name}"), format!("-{name}")),
        None => (BACKGROUND.to_owned(), String::new()),
    };
    let first = format!("{}-{}-bg{own}-{}", d.s.name(), release.id, release.attempt);
    let of_this = |v: &VerdictStatus| v.scope == scope && v.run.starts_with(&first);
    let entry = d.status.verdicts.iter().find(|v| of_this(v));
    let current = entry.map_or_else(|| first.clone(), |entry| entry.run.clone());
    let run = d.s.runs.get(&current);
    let passed = match run {
        Some(run) => verdict(run) == Verdict::Pass,
        None => entry.is_some_and(|entry| entry.phase == "Successful"),
    };
    if !passed {
        return (current, scope);
    }
    let ended = run.and_then(|run| run.status.as_ref()?.completed_at.as_ref()).map(|at| at.0);
    let again = ended.and_then(|ended| ended.saturating_add(AGAIN_AFTER).ok());
    if let Some(again) = again.filter(|again| d.now < *again) {
        d.wake_at(Some(again));
        return (current, scope);
    }
    let rounds = current.strip_prefix(&format!("{first}-")).and_then(|n| n.parse::<u32>().ok());
    let next = format!("{first}-{}", rounds.unwrap_or(1).saturating_add(1));
    d.status.verdicts.retain(|v| v.run != current);
    (next, scope)
}

/// The step's analysis has failed, and what a failure does is done.
pub(crate) fn fails(
    d: &mut Draft<'_>,
    plan: &spec::Plan,
    view: &DeploymentView,
    plan_of: &StepPlan,
) -> bool {
    let release = d.released();
    let run = d.s.runs.get(&run_of(d, &release));
    let failed = run.is_some_and(|run| matches!(verdict(run), Verdict::Fail { .. }));
    failed && !release.skip && plan_of.analysis.is_some() && !step(d, plan, view, plan_of)
}

/// The name of the run that the step under way starts.
fn run_of(d: &Draft<'_>, release: &ReleaseStatus) -> String {
    format!("{}-{}-s{}-{}", d.s.name(), release.id, release.step + 1, release.attempt)
}

/// Starts and reads the step's analysis. True when the step may go on.
pub(crate) fn step(
    d: &mut Draft<'_>,
    plan: &spec::Plan,
    view: &DeploymentView,
    step: &StepPlan,
) -> bool {
    let Some(stanza) = &step.analysis else { return true };
    let release = d.released();
    let number = release.step + 1;
    let name = run_of(d, &release);
    if release.overruled.contains(&name) {
        return true;
    }
    match answer(d, &name, &number.to_string(), stanza, view, step.timeout.is_none()) {
        Some(Verdict::Pass) => {
            d.event("AnalysisPassed", format!("step {number}: {}", told(d, &name)));
            true
        }
        Some(Verdict::Fail { reason }) => {
            let text = format!("step {number}: {reason}");
            steps::on_failure(d, plan, view, "AnalysisFailed", &text);
            false
        }
        Some(Verdict::Inconclusive { reason }) => undecided(d, plan, view, number, &reason),
        Some(Verdict::Continue { reason, .. }) => {
            if overdue::timed_out(d, step) {
                let reason = format!("no verdict in time: {reason}");
                return undecided(d, plan, view, number, &reason);
            }
            d.wait(Who::Analysis, format!("step {number}: the analysis {name}: {reason}"));
            false
        }
        None => false,
    }
}

/// A step cannot be told to be good. True when it goes on all the same.
pub(crate) fn undecided(
    d: &mut Draft<'_>,
    plan: &spec::Plan,
    view: &DeploymentView,
    number: i32,
    reason: &str,
) -> bool {
    let on = !inconclusive(d, plan, view, &format!("step {number}: {reason}"));
    if on {
        let text = format!("step {number}: {reason}; goes on: onInconclusive is Continue");
        d.warn("AnalysisInconclusive", text);
    }
    on
}

/// What the run said, for an event.
fn told(d: &Draft<'_>, name: &str) -> String {
    let run = d.s.runs.get(name).and_then(|r| r.status.as_ref());
    run.and_then(|s| s.message.clone()).unwrap_or_else(|| "the analysis passed".into())
}

/// The verdict of the run of this name, which is started when it does not exist. `None`: not yet.
/// `waits`: nothing but the end of the run ends what waits for it.
pub(crate) fn answer(
    d: &mut Draft<'_>,
    name: &str,
    scope: &str,
    stanza: &AnalysisStanza,
    view: &DeploymentView,
    waits: bool,
) -> Option<Verdict> {
    let Some(run) = d.s.runs.get(name) else {
        let lines = d.spec().map_or(1, |plan| lines::count(d, &plan));
        let built = build(d, name, scope, stanza, view, lines);
        match built.and_then(|run| ending(run, waits)) {
            Ok(run) => {
                status::clear(d, status::ANALYSIS);
                d.event("AnalysisStarted", format!("AnalysisRun {name}"));
                d.after.push(Action::StartRun(Box::new(run)));
                d.wait(Who::Analysis, format!("the analysis {name} to start"));
            }
            Err(text) => {
                if status::set(d, status::ANALYSIS, true, "AnalysisUnusable", &text) {
                    d.warn("AnalysisUnusable", text.clone());
                }
                d.wait(Who::Cluster, text);
            }
        }
        return None;
    };
    let found = verdict(run);
    let phase = run.status.as_ref().map(|s| s.phase);
    let entry = VerdictStatus {
        run: name.to_owned(),
        scope: scope.to_owned(),
        phase: phase.flatten().map_or_else(|| "Pending".into(), |p| format!("{p:?}")),
        message: Some(found.reason().to_owned()).filter(|r| !r.is_empty()),
    };
    d.status.verdict = Some(format!("{:?}", found.kind()));
    match d.status.verdicts.iter_mut().find(|v| v.run == name) {
        Some(known) => *known = entry,
        None => d.status.verdicts.push(entry),
    }
    Some(found)
}

/// A run that is waited for has to end.
fn ending(run: AnalysisRun, waits: bool) -> Result<AnalysisRun, String> {
    match analysis::never_ends(&run).filter(|_| waits) {
        Some(metric) => {
            Err(format!("{}: {}", analysis::endless_step(&metric), analysis::ENDLESS_REMEDY))
        }
        None => Ok(run),
    }
}

fn build(
    d: &Draft<'_>,
    name: &str,
    scope: &str,
    stanza: &AnalysisStanza,
    view: &DeploymentView,
    lines: i32,
) -> Result<AnalysisRun, String> {
    let release = d.released();
    let canary = view.current().map(|rs| rs.hash.clone()).unwrap_or_default();
    let templates = flatten(&stanza.templates, |reference| {
        d.s.templates.get(&(reference.cluster, reference.name.clone()))
    })
    .map_err(|e| e.to_string())?;
    let named: Vec<NamedTemplate<'_>> = templates;
    let rollout = json!({"metadata": d.s.rollout.metadata, "spec": d.s.rollout.spec});
    let arms = RunRelease {
        rollout: d.s.name().to_owned(),
        id: release.id.clone(),
        scope: scope.to_owned(),
        stable: Some(release.stable.clone()),
        canary: Some(canary.clone()),
        ..RunRelease::default()
    };
    let context = ReleaseContext {
        stable: &release.stable,
        canary: &canary,
        rollout: &rollout,
        release: Some(&arms),
    };
    let owner = OwnerReference {
        api_version: "sluice.dev/v1beta1".into(),
        kind: "Rollout".into(),
        name: d.s.name().to_owned(),
        uid: d.s.rollout.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    let mut run = build_run(name, d.s.namespace(), Some(owner), &named, stanza, &context)
        .map_err(|e| e.to_string())?;
    run.spec.ttl_strategy = Some(TtlStrategy {
        seconds_after_success: Some(if scope.starts_with(BACKGROUND) { KEPT.0 } else { KEPT.1 }),
        seconds_after_completion: Some(KEPT.2),
        seconds_after_failure: None,
    });
    lines::join(d, lines, &mut run);
    Ok(run)
}

/// What an analysis that cannot tell does. True when it ends this pass.
pub(crate) fn inconclusive(
    d: &mut Draft<'_>,
    plan: &spec::Plan,
    view: &DeploymentView,
    text: &str,
) -> bool {
    match plan.on_inconclusive {
        OnInconclusive::Continue => false,
        OnInconclusive::Rollback => {
            back::start(d, "AnalysisInconclusive", text, true);
            back::run(d, view);
            true
        }
        OnInconclusive::Pause => {
            // Said once: a background run is read in every pass.
            if d.released().held.is_none() {
                d.warn("AnalysisInconclusive", text.to_owned());
                d.release().held = Some(text.to_owned());
            }
            d.stop_clock();
            machine::rest(d, view);
            d.wait(Who::Person, format!("{text}: kubectl sluice approve, retry or abort"));
            true
        }
    }
}

/// Ends every run of the release that still measures.
pub(crate) fn end_all(d: &mut Draft<'_>) {
    end(d, |_| true);
}

/// Ends the runs of the step, which nobody reads any more.
pub(crate) fn end_step(d: &mut Draft<'_>) {
    end(d, |scope| !scope.starts_with(BACKGROUND));
}

/// The write that ends a run.
pub(crate) fn ended(run: &AnalysisRun) -> Action {
    Action::EndRun {
        name: run.metadata.name.clone().unwrap_or_default(),
        uid: run.metadata.uid.clone().unwrap_or_default(),
        resource_version: run.metadata.resource_version.clone().unwrap_or_default(),
    }
}

fn end(d: &mut Draft<'_>, which: impl Fn(&str) -> bool) {
    let id = d.released().id;
    let open: Vec<Action> =
        d.s.runs
            .values()
            .filter(|run| !run.spec.terminate)
            .filter(|run| run.spec.release.as_ref().is_some_and(|r| r.id == id && which(&r.scope)))
            .filter(|run| {
                let phase = run.status.as_ref().and_then(|s| s.phase);
                !phase.is_some_and(crate::analysis::assess::completed)
            })
            .map(ended)
            .collect();
    d.after.extend(open);
}
