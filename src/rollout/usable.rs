//! Whether the Services and routes of a release can be used, asked before its pods move.

use serde_json::{Value, json};

use super::accepted::unserved;
use super::notes::{Notes, read};
use super::traffic::split_of;
use super::types::Who;
use super::{Draft, status};
use crate::spec::{self, RouteRef, TrafficRouting};
use crate::traffic::{
    Acceptance, Reach, ServicePair, accepted, apply_route, check_canary_service, check_route,
    check_service, reach, rival,
};
use crate::workload::POD_TEMPLATE_HASH;

/// Who must act, the reason in one word, the sentence.
type Problem = (Who, &'static str, String);

/// Whether every Service and route is there and usable; says which is not.
pub(super) fn check(d: &mut Draft<'_>, plan: &spec::Plan) -> bool {
    match problem(d, plan) {
        None => {
            status::clear(d, status::TRAFFIC);
            true
        }
        Some((who, reason, text)) => {
            if status::set(d, status::TRAFFIC, true, reason, &text) {
                d.warn(reason, text.clone());
            }
            d.wait(who, text);
            false
        }
    }
}

fn problem(d: &Draft<'_>, plan: &spec::Plan) -> Option<Problem> {
    let notes = read(d);
    plan.traffic.iter().find_map(|routing| {
        let service = service_problem(d, &notes, routing);
        service.map(|(reason, text)| (Who::Cluster, reason, text)).or_else(|| {
            routing.routes.iter().find_map(|named| route_problem(d, plan, routing, named, &notes))
        })
    })
}

fn service_problem(
    d: &Draft<'_>,
    notes: &Notes,
    routing: &TrafficRouting,
) -> Option<(&'static str, String)> {
    let Some(service) = d.s.services.get(&routing.service) else {
        let text = format!("Service {} does not exist: create it", routing.service);
        return Some(("ServiceMissing", text));
    };
    if !notes.pinned.contains(&routing.service)
        && let Err(e) = check_service(service, POD_TEMPLATE_HASH)
    {
        return Some(("ServiceUnusable", e.to_string()));
    }
    let taken = d.s.services.get(&ServicePair::of(&routing.service).canary)?;
    let taken = check_canary_service(taken, &owner(d)).err()?;
    Some(("CanaryServiceTaken", taken.to_string()))
}

fn route_problem(
    d: &Draft<'_>,
    plan: &spec::Plan,
    routing: &TrafficRouting,
    named: &RouteRef,
    notes: &Notes,
) -> Option<Problem> {
    let Some(route) = d.s.routes.get(&named.key()) else {
        return Some((Who::Cluster, "RouteMissing", format!("{named} does not exist: create it")));
    };
    let pair = ServicePair::of(&routing.service);
    let rule = routing.rule_name.as_deref();
    // Also in mid-release: once somebody has reset the route, another may be the first to write it.
    if reach(route, &pair) == Reach::default()
        && let Some(theirs) = rival(route, &pair, rule, d.s.splits.keys().map(String::as_str))
    {
        let rollout = d.s.splits.get(theirs).map_or("", String::as_str);
        let text = format!(
            "{named}: Rollout {rollout} splits a rule that sends to Service {} too: its release to \
             end, or give each Service a rule of its own",
            routing.service
        );
        return Some((Who::Router, "RouteConflict", text));
    }
    if notes.routes.contains_key(&named.key()) {
        return None;
    }
    let unusable = |text| Some((Who::Cluster, "RouteUnusable", text));
    if let Err(e) = check_route(route, &pair, rule) {
        return unusable(e.to_string());
    }
    if accepted(route) == Acceptance::Unserved {
        return Some((Who::Person, "RouteUnserved", unserved(route)));
    }
    plan.steps.iter().enumerate().find_map(|(i, step)| {
        let refused = apply_route(route, &pair, rule, &split_of(step), None).err()?;
        unusable(format!("step {}: {refused}", i + 1))
    })
}

/// The Rollout as the owner of what it makes.
pub(super) fn owner(d: &Draft<'_>) -> Value {
    json!({
        "apiVersion": "sluice.dev/v1beta1",
        "kind": "Rollout",
        "metadata": {"name": d.s.rollout.metadata.name, "uid": d.s.rollout.metadata.uid},
    })
}
