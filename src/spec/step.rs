//! One step, checked: how many pods, which traffic, what it waits for.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::analysis::{AnalysisStanza, span};
use super::error::{Errors, SpecError};
use super::hooks::HookPlan;
use crate::api::rollout::{self as raw, Canary, HeaderModifier, HttpMatch};
use crate::units::{Percent, ReplicasTarget, UnitError};

/// One step of a release.
#[derive(Debug, Clone, PartialEq)]
pub struct StepPlan {
    /// Its name, for people and for `jump`.
    pub name: Option<String>,
    /// Pods of the new version. A step that names only a weight has the same share of pods.
    pub replicas: ReplicasTarget,
    /// Weight of the new version.
    pub traffic: Traffic,
    /// Requests that go to the new version whatever the weight; a step with matches has no weight.
    pub matches: Vec<HttpMatch>,
    /// Share of the traffic that is copied to the new version.
    pub mirror: Option<Percent>,
    /// Header changes on requests to the new version.
    pub header_modifier: Option<HeaderModifier>,
    /// What it waits for once pods and traffic are in place.
    pub pause: Pause,
    /// The step's own analysis, else `stepAnalysis`.
    pub analysis: Option<AnalysisStanza>,
    /// The calls of its own.
    pub hooks: Vec<HookPlan>,
    /// How long it may last before `onInconclusive` applies.
    pub timeout: Option<SignedDuration>,
    /// What the user wrote, to be frozen while the step runs.
    pub raw: raw::Step,
}

/// Weight of the new version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Traffic {
    /// The step sets no weight.
    #[default]
    None,
    /// This share, above 0 %.
    Weight(Percent),
}

/// What a step waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pause {
    /// Nothing is said: the analysis' verdict, or approval where there is none.
    #[default]
    Absent,
    /// Somebody approves.
    Approval,
    /// Time.
    For(SignedDuration),
}

impl StepPlan {
    /// Checks step `index` (counted from 0) of `canary`, whose `stepAnalysis` and routings it uses.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(step: &raw::Step, index: usize, canary: &Canary) -> Result<Self, Vec<SpecError>> {
        let path = format!("spec.strategy.canary.steps[{index}]");
        let mut errors = Errors::default();
        let raw::Step {
            name,
            replicas: _,
            traffic,
            matches,
            request_header_modifier,
            mirror,
            pause,
            analysis,
            hooks,
            timeout,
        } = step;
        let weight =
            traffic.as_deref().and_then(|t| weight(t, &format!("{path}.traffic"), &mut errors));
        let mirror =
            mirror.as_deref().and_then(|m| self::weight(m, &format!("{path}.mirror"), &mut errors));
        routed(step, &path, canary, &mut errors);
        let (stanza, stanza_path) = match analysis {
            Some(own) => (Some(own), format!("{path}.analysis")),
            None => (canary.step_analysis.as_ref(), "spec.strategy.canary.stepAnalysis".into()),
        };
        let plan = Self {
            name: name.clone(),
            replicas: replicas(step, weight, &path, &mut errors),
            traffic: match weight {
                Some(share) if matches.is_empty() => Traffic::Weight(share),
                _ => Traffic::None,
            },
            matches: matches.clone(),
            mirror,
            header_modifier: request_header_modifier.clone(),
            pause: waits(pause.as_ref(), &path, &mut errors),
            analysis: stanza.map(|s| AnalysisStanza::parse_step(s, &stanza_path, &mut errors)),
            hooks: HookPlan::parse_step(hooks, &path, canary, &mut errors),
            timeout: span(timeout.as_ref(), &format!("{path}.timeout"), &mut errors),
            raw: step.clone(),
        };
        errors.finish(plan)
    }
}

/// A share above 0 %.
fn weight(text: &str, path: &str, errors: &mut Errors) -> Option<Percent> {
    match Percent::parse(text) {
        Ok(share) if share > Percent::ZERO => return Some(share),
        _ => errors.invalid(path, &text, "must be a percentage from 1% to 100%, such as 10%"),
    }
    None
}

/// Kruise's rule: a step that names no pods has as many as its weight.
fn replicas(
    step: &raw::Step,
    weight: Option<Percent>,
    path: &str,
    errors: &mut Errors,
) -> ReplicasTarget {
    let path = format!("{path}.replicas");
    let target = match (&step.replicas, weight) {
        (Some(IntOrString::Int(n)), _) => ReplicasTarget::absolute(*n),
        (Some(IntOrString::String(text)), _) => ReplicasTarget::percent(text),
        (None, Some(share)) => Ok(ReplicasTarget::Percent(share)),
        (None, None) => {
            if step.traffic.is_none() {
                let remedy =
                    "is needed when the step has no traffic; write a number such as 1, or 10%";
                errors.invalid(path, &step.replicas, remedy);
            }
            return ReplicasTarget::Percent(Percent::ALL);
        }
    };
    target.unwrap_or_else(|error: UnitError| {
        errors.invalid(path, &step.replicas, format!("{error}; write a number such as 1, or 10%"));
        ReplicasTarget::Percent(Percent::ALL)
    })
}

/// What changes traffic needs somebody to change it.
fn routed(step: &raw::Step, path: &str, canary: &Canary, errors: &mut Errors) {
    if !canary.traffic_routings.is_empty() {
        return;
    }
    let remedy = "needs spec.strategy.canary.trafficRoutings; add `- service: NAME` with a gateway";
    if step.traffic.is_some() {
        errors.invalid(format!("{path}.traffic"), &step.traffic, remedy);
    }
    if !step.matches.is_empty() {
        errors.invalid(format!("{path}.matches"), &step.matches, remedy);
    }
    if step.mirror.is_some() {
        errors.invalid(format!("{path}.mirror"), &step.mirror, remedy);
    }
    if step.request_header_modifier.is_some() {
        let path = format!("{path}.requestHeaderModifier");
        errors.invalid(path, &step.request_header_modifier, remedy);
    }
}

fn waits(pause: Option<&raw::Pause>, path: &str, errors: &mut Errors) -> Pause {
    match pause {
        None => Pause::Absent,
        Some(raw::Pause { duration: None }) => Pause::Approval,
        Some(raw::Pause { duration }) => {
            span(duration.as_ref(), &format!("{path}.pause.duration"), errors)
                .map_or(Pause::Approval, Pause::For)
        }
    }
}
