//! The analysis runs of a release: started, read, ended. What a verdict does is decided here; how it
//! comes about is the business of `analysis`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;

use super::types::{Action, Who};
use super::{Draft, back, machine, status, steps};
use crate::analysis::{NamedTemplate, ReleaseContext, Verdict, build_run, flatten, verdict};
use crate::api::AnalysisRun;
use crate::api::analysis_run::RunRelease;
use crate::api::rollout::OnInconclusive;
use crate::api::status::{StepState, VerdictStatus};
use crate::spec::{self, AnalysisStanza, StepPlan};
use crate::workload::DeploymentView;

/// The scope of a background run.
const BACKGROUND: &str = "Background";

/// Starts and reads the background analysis. True when it has decided something that ends this pass.
pub(crate) fn background(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView) -> bool {
    let Some(stanza) = &plan.background else { return false };
    let release = d.released();
    let flows = release.step > 0 || release.state >= StepState::StepMetricsAnalysis;
    if !flows {
        return false;
    }
    let name = format!("{}-{}-bg-{}", d.s.name(), release.id, release.attempt);
    if release.overruled.contains(&name) {
        return false;
    }
    match answer(d, &name, BACKGROUND, stanza, view) {
        Some(Verdict::Fail { reason }) => {
            steps::on_failure(d, plan, view, "AnalysisFailed", &format!("background: {reason}"));
            true
        }
        Some(Verdict::Inconclusive { reason }) => {
            inconclusive(d, plan, view, &format!("background: {reason}"))
        }
        Some(Verdict::Pass | Verdict::Continue { .. }) => false,
        None => d.waiting.is_some(),
    }
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
    let name = format!("{}-{}-s{number}-{}", d.s.name(), release.id, release.attempt);
    if release.overruled.contains(&name) {
        return true;
    }
    match answer(d, &name, &number.to_string(), stanza, view) {
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
            if steps::timed_out(d, step) {
                let reason = format!("no verdict in time: {reason}");
                return undecided(d, plan, view, number, &reason);
            }
            d.wait(Who::Analysis, format!("step {number}: the analysis {name}: {reason}"));
            false
        }
        None => false,
    }
}

/// A step's analysis cannot tell. True when the step goes on all the same.
fn undecided(
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
fn answer(
    d: &mut Draft<'_>,
    name: &str,
    scope: &str,
    stanza: &AnalysisStanza,
    view: &DeploymentView,
) -> Option<Verdict> {
    let Some(run) = d.s.runs.get(name) else {
        match build(d, name, scope, stanza, view) {
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

fn build(
    d: &Draft<'_>,
    name: &str,
    scope: &str,
    stanza: &AnalysisStanza,
    view: &DeploymentView,
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
    build_run(name, d.s.namespace(), Some(owner), &named, stanza, &context)
        .map_err(|e| e.to_string())
}

/// What an analysis that cannot tell does. True when it ends this pass.
fn inconclusive(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView, text: &str) -> bool {
    match plan.on_inconclusive {
        OnInconclusive::Continue => false,
        OnInconclusive::Rollback => {
            back::start(d, "AnalysisInconclusive", text, true);
            back::run(d, plan, view);
            true
        }
        OnInconclusive::Pause => {
            // Said once: a background run is read in every pass.
            if d.released().held.is_none() {
                d.warn("AnalysisInconclusive", text.to_owned());
                d.release().held = Some(text.to_owned());
            }
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

/// Ends the runs of steps.
pub(crate) fn end_step(d: &mut Draft<'_>) {
    end(d, |scope| scope != BACKGROUND);
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
            .map(|run| Action::EndRun {
                name: run.metadata.name.clone().unwrap_or_default(),
                uid: run.metadata.uid.clone().unwrap_or_default(),
            })
            .collect();
    d.after.extend(open);
}
