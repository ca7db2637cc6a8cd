//! A Rollout's spec, checked: what the planner works with.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sha2::{Digest, Sha256};

use super::analysis::{AnalysisStanza, Bake};
use super::error::{Errors, SpecError};
use super::hooks::HookPlan;
use super::step::{StepPlan, Traffic};
use super::traffic::{RouteKind, TrafficRouting};
use super::windows::Calendar;
use crate::api::RolloutSpec;
use crate::api::rollout::{
    Canary, HttpMatch, OnDelete, OnFailure, OnInconclusive, Strategy, WorkloadRef,
};
use crate::units::{ReplicasTarget, Tolerance};

/// The most steps a release may have: Kruise's limit.
pub const MOST_STEPS: usize = 50;

/// How long a batch may take to get ready when nothing is said.
const PROGRESS_DEADLINE: SignedDuration = SignedDuration::from_secs(600);

/// The words of the schema's rules.
const REPLICAS_DOWN: &str = "replicas must not go down from one step to the next";
const ROUTE_TWICE: &str =
    "a route is named by two trafficRoutings; give each Service a route of its own";
const TRAFFIC_DOWN: &str = "traffic must not go down from one step to the next";

/// A checked release plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The steps, from 1 to 50.
    pub steps: Vec<StepPlan>,
    /// The services and routes whose traffic follows the steps.
    pub traffic: Vec<TrafficRouting>,
    /// Analyses from the first canary request to the end.
    pub background: Vec<AnalysisStanza>,
    /// The watch after the last step.
    pub bake: Option<Bake>,
    /// How long a batch may take to get ready.
    pub progress_deadline: SignedDuration,
    /// What a failed analysis or a missed deadline does.
    pub on_failure: OnFailure,
    /// What an analysis that cannot tell does.
    pub on_inconclusive: OnInconclusive,
    /// What happens to a release under way when the Rollout goes.
    pub on_delete: OnDelete,
    /// True: the release stays where it is.
    pub paused: bool,
    /// Calls around the release and around every step.
    pub hooks: Vec<HookPlan>,
    /// When it may go on.
    pub calendar: Calendar,
    /// How many updated pods of a batch may be not ready.
    pub failure_threshold: Tolerance,
    /// Identity of the plan: it changes with everything but pauses and the failure threshold.
    pub hash: String,
}

impl Plan {
    /// Checks `spec`.
    ///
    /// # Errors
    /// Everything that is wrong with it or not supported yet, in the order of its fields.
    pub fn parse(spec: &RolloutSpec) -> Result<Self, Vec<SpecError>> {
        let mut errors = Errors::default();
        let RolloutSpec {
            workload_ref,
            disabled: _,
            strategy,
            progress_deadline_seconds,
            on_failure,
            on_inconclusive,
            on_delete,
            alerts: _,
            notifications: _,
            windows,
            freezes,
        } = spec;
        workload(workload_ref, &mut errors);
        let Some(canary) = canary(strategy, &mut errors) else {
            unsupported(spec, &mut errors);
            return Err(errors.into_inner());
        };
        let plan = Self {
            steps: steps(canary, &mut errors),
            traffic: routings(canary, &mut errors),
            background: AnalysisStanza::parse_background(canary, &mut errors),
            bake: canary
                .bake
                .as_ref()
                .map(|bake| Bake::parse(bake, "spec.strategy.canary.bake", &mut errors)),
            progress_deadline: deadline(*progress_deadline_seconds, &mut errors),
            on_failure: on_failure.unwrap_or_default(),
            on_inconclusive: on_inconclusive.unwrap_or_default(),
            on_delete: on_delete.unwrap_or_default(),
            paused: strategy.paused,
            hooks: HookPlan::parse_strategy(canary, &mut errors),
            calendar: Calendar::parse(windows, freezes, &mut errors),
            failure_threshold: threshold(canary.failure_threshold.as_ref(), &mut errors),
            hash: plan_hash(canary),
        };
        grpc_matches(&plan, &mut errors);
        unsupported(spec, &mut errors);
        errors.finish(plan)
    }
}

/// A GRPCRoute matches on headers; what else a step names holds in none of its rules.
fn grpc_matches(plan: &Plan, errors: &mut Errors) {
    let routes = plan.traffic.iter().flat_map(|t| &t.routes);
    let Some(route) = routes.clone().find(|r| r.kind == RouteKind::Grpc) else { return };
    for (i, step) in plan.steps.iter().enumerate() {
        for (j, wanted) in step.matches.iter().enumerate() {
            let HttpMatch { path, headers: _, query_params, cookies: _, method } = wanted;
            if path.is_some() || !query_params.is_empty() || method.is_some() {
                let at = format!("spec.strategy.canary.steps[{i}].matches[{j}]");
                let remedy =
                    format!("{route} matches on headers and cookies only; leave the rest out");
                errors.invalid(at, wanted, remedy);
            }
        }
    }
}

fn workload(workload: &WorkloadRef, errors: &mut Errors) {
    let WorkloadRef { api_version, kind, name } = workload;
    if name.is_empty() {
        let remedy = "must be the workload's name";
        errors.invalid("spec.workloadRef.name", name, remedy);
    }
    if (api_version.as_str(), kind.as_str()) != ("apps/v1", "Deployment") {
        let remedy = "only apps/v1 Deployments are released; use such a workload";
        errors.unsupported("spec.workloadRef", workload, remedy);
    }
}

fn canary<'a>(strategy: &'a Strategy, errors: &mut Errors) -> Option<&'a Canary> {
    let Strategy { paused: _, canary, blue_green } = strategy;
    if canary.is_some() == blue_green.is_some() {
        let remedy = "must have exactly one of canary and blueGreen";
        errors.invalid("spec.strategy", strategy, remedy);
    } else if let Some(blue_green) = blue_green {
        let remedy = "releases go step by step in place; use spec.strategy.canary";
        errors.unsupported("spec.strategy.blueGreen", blue_green, remedy);
        return None;
    }
    canary.as_ref()
}

fn steps(canary: &Canary, errors: &mut Errors) -> Vec<StepPlan> {
    let path = "spec.strategy.canary.steps";
    let count = canary.steps.len();
    if count == 0 || count > MOST_STEPS {
        let remedy = format!("must have from 1 to {MOST_STEPS} steps, not {count}");
        errors.invalid(path, &count, remedy);
    }
    let mut plans: Vec<StepPlan> = Vec::new();
    for (index, step) in canary.steps.iter().take(MOST_STEPS).enumerate() {
        match StepPlan::parse(step, index, canary) {
            Ok(plan) => {
                if let Some(before) = plans.last() {
                    rising(before, &plan, index, errors);
                }
                if let Some(name) = &plan.name
                    && plans.iter().any(|known| known.name.as_ref() == Some(name))
                {
                    let remedy = "two steps have one name; give each step its own";
                    errors.invalid(format!("{path}[{index}].name"), name, remedy);
                }
                plans.push(plan);
            }
            Err(more) => errors.extend(more),
        }
    }
    plans
}

/// Neither pods nor weight go down from one step to the next, where the two can be compared.
fn rising(before: &StepPlan, step: &StepPlan, index: usize, errors: &mut Errors) {
    use ReplicasTarget::{Absolute, Percent};
    let path = format!("spec.strategy.canary.steps[{index}]");
    let down = match (before.replicas, step.replicas) {
        (Absolute(a), Absolute(b)) => b < a,
        (Percent(a), Percent(b)) => b < a,
        (Absolute(_), Percent(_)) | (Percent(_), Absolute(_)) => false,
    };
    if down {
        let least = before.replicas;
        let remedy = format!("{REPLICAS_DOWN}; write at least {least}");
        errors.invalid(format!("{path}.replicas"), &step.replicas.to_string(), remedy);
    }
    if let (Traffic::Weight(a), Traffic::Weight(b)) = (before.traffic, step.traffic)
        && b < a
    {
        let remedy = format!("{TRAFFIC_DOWN}; write at least {a}");
        errors.invalid(format!("{path}.traffic"), &b.to_string(), remedy);
    }
}

fn routings(canary: &Canary, errors: &mut Errors) -> Vec<TrafficRouting> {
    let path = |i| format!("spec.strategy.canary.trafficRoutings[{i}]");
    let routings = canary.traffic_routings.iter().enumerate();
    let parsed: Vec<_> =
        routings.map(|(i, r)| TrafficRouting::parse(r, &path(i), errors)).collect();
    for (i, routing) in parsed.iter().enumerate() {
        if parsed.iter().take(i).any(|before| before.service == routing.service) {
            let remedy = "a service is named twice in trafficRoutings; put all its routes in one \
                          entry (gateway.httpRouteNames)";
            errors.invalid(format!("{}.service", path(i)), &routing.service, remedy);
        }
        // What restores a route is kept by its name.
        let before = parsed.iter().take(i).filter(|before| before.service != routing.service);
        let mut taken = before.flat_map(|before| &before.routes);
        if let Some(route) = taken.find(|route| routing.routes.contains(route)) {
            errors.invalid(format!("{}.gateway", path(i)), &route.to_string(), ROUTE_TWICE);
        }
    }
    parsed
}

fn deadline(seconds: Option<i32>, errors: &mut Errors) -> SignedDuration {
    match seconds {
        None => PROGRESS_DEADLINE,
        Some(seconds) => {
            if seconds < 1 {
                let remedy = "must be 1 or more seconds; leave it out for 600";
                errors.invalid("spec.progressDeadlineSeconds", &seconds, remedy);
            }
            SignedDuration::from_secs(seconds.into())
        }
    }
}

fn threshold(value: Option<&IntOrString>, errors: &mut Errors) -> Tolerance {
    let parsed = match value {
        None => return Tolerance::default(),
        Some(IntOrString::Int(n)) => Tolerance::absolute(*n),
        Some(IntOrString::String(text)) => Tolerance::percent(text),
    };
    parsed.unwrap_or_else(|error| {
        let remedy = format!("{error}; write a number such as 1, or 10%");
        errors.invalid("spec.strategy.canary.failureThreshold", &value, remedy);
        Tolerance::default()
    })
}

/// What Kruise's `rolloutHash` covers: the strategy without pauses and the failure threshold.
fn plan_hash(canary: &Canary) -> String {
    let mut canary = canary.clone();
    canary.failure_threshold = None;
    for step in &mut canary.steps {
        step.pause = None;
    }
    let json = serde_json::to_vec(&canary).unwrap_or_default();
    Sha256::digest(json).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Fields whose engine does not exist yet.
fn unsupported(spec: &RolloutSpec, errors: &mut Errors) {
    if !spec.notifications.is_empty() {
        let remedy = "nobody is told; watch the Rollout's events instead";
        errors.unsupported("spec.notifications", &spec.notifications, remedy);
    }
    if let Some(canary) = &spec.strategy.canary {
        unsupported_canary(canary, errors);
    }
}

fn unsupported_canary(canary: &Canary, errors: &mut Errors) {
    let at = |field: &str| format!("spec.strategy.canary.{field}");
    if let Some(metadata) = &canary.patch_pod_template_metadata {
        let remedy = "pods carry the workload's own labels; leave it out";
        errors.unsupported(at("patchPodTemplateMetadata"), metadata, remedy);
    }
    if canary.enable_extra_workload_for_canary {
        let remedy = "releases are in place; set it to false";
        errors.unsupported(at("enableExtraWorkloadForCanary"), &true, remedy);
    }
    if let Some(name) = &canary.traffic_routing_ref {
        let remedy = "traffic follows trafficRoutings; leave it out";
        errors.unsupported(at("trafficRoutingRef"), name, remedy);
    }
    if canary.disable_generate_canary_service {
        let remedy = "routes need a Service of the new version; set it to false";
        errors.unsupported(at("disableGenerateCanaryService"), &true, remedy);
    }
    if let Some(affinity) = &canary.session_affinity {
        let remedy = "requests are split one by one; leave it out";
        errors.unsupported(at("sessionAffinity"), affinity, remedy);
    }
    if let Some(ramp) = &canary.ramp {
        let remedy = "write the steps one by one";
        errors.unsupported(at("ramp"), ramp, remedy);
    }
    if let Some(rollback) = &canary.rollback
        && rollback.steps.unwrap_or_default() != crate::api::rollout::RollbackSteps::Immediate
    {
        let remedy = "a rollback goes at once; write Immediate or leave it out";
        errors.unsupported(at("rollback.steps"), rollback, remedy);
    }
}

#[cfg(test)]
mod tests;
