//! Traffic of a release: Services pinned, canary Services made, routes edited and accepted, and all of
//! it taken back. Every function says `true` when what it wants is observed.
//!
//! No order of these writes leaves a Service without a ready endpoint that had one: the stable Service
//! is pinned only while the stable revision has ready pods, and a canary Service gets traffic only while
//! it has ready endpoints; where its pods must go while it still has traffic, it is widened first.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::types::{Action, Who};
use super::{Draft, back as way_back, status, steps};
use crate::api::status::TrafficStatus;
use crate::spec::{self, StepPlan, Traffic};
use crate::traffic::{
    Acceptance, RouteNotes, ServicePair, Split, accepted, apply_route, canary_service,
    check_canary_service, check_route, check_service, pin, pinned_to, reach, restore_route, unpin,
};
use crate::workload::{DeploymentView, POD_TEMPLATE_HASH};

/// Resets of a route by somebody else in one step before the release holds.
const CONTENDED_MAX: i32 = 3;

/// What the release has changed, kept in the status until the release is over.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
struct Notes {
    /// Edited routes.
    routes: BTreeMap<String, RouteNote>,
    /// Stable Services that were pinned.
    pinned: BTreeSet<String>,
    /// Canary Services that were made.
    canaries: BTreeSet<String>,
}

/// One edited route.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
struct RouteNote {
    /// The user's Service.
    service: String,
    /// The one rule that is split, if the user named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    /// What restores the route.
    notes: RouteNotes,
    /// What was written last.
    split: Split,
}

fn read(d: &Draft<'_>) -> Notes {
    let text = d.status.release.as_ref().and_then(|r| r.traffic_notes.as_deref());
    text.and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default()
}

fn keep(d: &mut Draft<'_>, notes: &Notes) {
    let text = serde_json::to_string(notes).unwrap_or_default();
    if read(d) != *notes {
        d.release().traffic_notes = Some(text);
    }
}

/// The split that a step asks for.
fn split_of(step: &StepPlan) -> Split {
    Split {
        weight: match step.traffic {
            Traffic::None => None,
            Traffic::Weight(p) => u8::try_from(p.get()).ok(),
        },
        matches: step.matches.clone(),
        headers: step.header_modifier.clone(),
        mirror: step.mirror.and_then(|p| u8::try_from(p.get()).ok()),
    }
}

/// True when the step asks for traffic of its own.
pub(crate) fn moves(step: &StepPlan) -> bool {
    !split_of(step).is_stable()
}

fn text_of(split: &Split) -> String {
    match (split.weight, split.matches.len()) {
        (Some(w), 0) => format!("{w}%"),
        (Some(w), m) => format!("{w}% and {m} matches"),
        (None, 0) => "0%".into(),
        (None, m) => format!("{m} matches"),
    }
}

/// Makes Services ready for a step, before its pods move.
pub(crate) fn prepare(
    d: &mut Draft<'_>,
    plan: &spec::Plan,
    view: &DeploymentView,
    step: &StepPlan,
) -> bool {
    if plan.traffic.is_empty() {
        return true;
    }
    if !check(d, plan) {
        return false;
    }
    // A step without traffic has the pods' natural share, as in Kruise.
    if split_of(step).is_stable() {
        return to_native(d, false);
    }
    if steps::aim_of(step, view.replicas) >= view.replicas {
        return open_stable(d, plan);
    }
    pin_stable(d, plan, view)
}

/// Whether every Service and route is there and usable; says which is not.
fn check(d: &mut Draft<'_>, plan: &spec::Plan) -> bool {
    match problem(d, plan) {
        None => {
            status::clear(d, status::TRAFFIC);
            true
        }
        Some((reason, text)) => {
            if status::set(d, status::TRAFFIC, true, reason, &text) {
                d.warn(reason, text.clone());
            }
            d.wait(Who::Cluster, text);
            false
        }
    }
}

fn problem(d: &Draft<'_>, plan: &spec::Plan) -> Option<(&'static str, String)> {
    let notes = read(d);
    for routing in &plan.traffic {
        let Some(service) = d.s.services.get(&routing.service) else {
            let text = format!("Service {} does not exist: create it", routing.service);
            return Some(("ServiceMissing", text));
        };
        if !notes.pinned.contains(&routing.service)
            && let Err(e) = check_service(service, POD_TEMPLATE_HASH)
        {
            return Some(("ServiceUnusable", e.to_string()));
        }
        let pair = ServicePair::of(&routing.service);
        if let Some(taken) = d.s.services.get(&pair.canary)
            && let Err(e) = check_canary_service(taken, &owner(d))
        {
            return Some(("CanaryServiceTaken", e.to_string()));
        }
        for name in &routing.http_routes {
            let Some(route) = d.s.routes.get(name) else {
                let text = format!("HTTPRoute {name} does not exist: create it");
                return Some(("RouteMissing", text));
            };
            if !notes.routes.contains_key(name)
                && let Err(e) = check_route(route, &pair, routing.rule_name.as_deref())
            {
                return Some(("RouteUnusable", e.to_string()));
            }
        }
    }
    None
}

fn owner(d: &Draft<'_>) -> Value {
    json!({
        "apiVersion": "sluice.dev/v1beta1",
        "kind": "Rollout",
        "metadata": {"name": d.s.rollout.metadata.name, "uid": d.s.rollout.metadata.uid},
    })
}

/// Pins the stable Services, so that new pods get no traffic by accident. While a version in between
/// still has pods that carry traffic, and the stable one cannot carry all of it, nothing is pinned.
fn pin_stable(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView) -> bool {
    let release = d.released();
    let Some(stable) = view.by_hash(&release.stable) else { return true };
    let middle =
        view.active().any(|rs| rs.hash != release.stable && rs.template_hash != view.template_hash);
    let carried = way_back::carried_percent(view, &release, stable.ready());
    if stable.ready() == 0 || (middle && carried < 100) {
        return true;
    }
    let mut notes = read(d);
    let mut done = true;
    for routing in &plan.traffic {
        let Some(service) = d.s.services.get(&routing.service) else { continue };
        if pinned_to(service, POD_TEMPLATE_HASH) == Some(release.stable.as_str()) {
            continue;
        }
        notes.pinned.insert(routing.service.clone());
        let pinned = pin(service, (POD_TEMPLATE_HASH, &release.stable));
        d.after.push(Action::PutService(Box::new(pinned)));
        d.wait(Who::Router, format!("Service {} to be pinned", routing.service));
        done = false;
    }
    keep(d, &notes);
    done && endpoints_ready(d, plan)
}

/// Before pods move: no Service stays pinned to a version that has, or is about to have, no ready pod.
pub(crate) fn keep_carried(
    d: &mut Draft<'_>,
    plan: &spec::Plan,
    view: &DeploymentView,
    k: i32,
) -> bool {
    if carries(d, view, k) { true } else { open_stable(d, plan) }
}

/// The stable version keeps pods in this step, and one of them is ready.
fn carries(d: &Draft<'_>, view: &DeploymentView, k: i32) -> bool {
    let stable = d.released().stable;
    k < view.replicas && view.by_hash(&stable).is_some_and(|rs| rs.ready() > 0)
}

/// Every stable Service has a ready endpoint.
fn endpoints_ready(d: &mut Draft<'_>, plan: &spec::Plan) -> bool {
    for routing in &plan.traffic {
        if d.s.endpoints.get(&routing.service).copied().unwrap_or(0) == 0 {
            d.wait(Who::Pods, format!("a ready endpoint of Service {}", routing.service));
            return false;
        }
    }
    true
}

/// Takes the pins of the stable Services away: they serve from every revision.
pub(crate) fn open_stable(d: &mut Draft<'_>, plan: &spec::Plan) -> bool {
    let names: Vec<String> = plan.traffic.iter().map(|t| t.service.clone()).collect();
    open(d, &names)
}

fn open(d: &mut Draft<'_>, names: &[String]) -> bool {
    let pinned = read(d).pinned;
    let mut done = true;
    for name in names.iter().filter(|n| pinned.contains(*n)) {
        let Some(service) = d.s.services.get(name) else { continue };
        if pinned_to(service, POD_TEMPLATE_HASH).is_some() {
            d.after.push(Action::PutService(Box::new(unpin(service, POD_TEMPLATE_HASH))));
            d.wait(Who::Router, format!("Service {name} to serve from every revision"));
            done = false;
        }
    }
    done
}

/// Gives the step's traffic to the new version: its Service, its endpoints, the routes, in this order.
pub(crate) fn to_step(
    d: &mut Draft<'_>,
    plan: &spec::Plan,
    view: &DeploymentView,
    step: &StepPlan,
) -> bool {
    let split = split_of(step);
    if plan.traffic.is_empty() || split.is_stable() {
        return true;
    }
    if !check(d, plan) {
        return false;
    }
    // After a scale event the stable version may have pods again that it had not.
    let k = steps::aim_of(step, view.replicas);
    if carries(d, view, k) && !pin_stable(d, plan, view) {
        return false;
    }
    let text = text_of(&split);
    let observed = d.status.traffic.as_ref().and_then(|t| t.observed.clone());
    d.status.traffic = Some(TrafficStatus { desired: Some(text.clone()), observed });
    let tolerated = plan.failure_threshold.of(steps::aim_of(step, view.replicas));
    let needed = (steps::aim_of(step, view.replicas) - tolerated).max(1);
    if !canary_services(d, plan, view, needed) {
        return false;
    }
    if !write_routes(d, plan, &split) {
        return false;
    }
    if let Some(t) = d.status.traffic.as_mut()
        && t.observed.as_deref() != Some(text.as_str())
    {
        t.observed = Some(text.clone());
        d.event("TrafficMoved", format!("the new version has {text} of the traffic"));
    }
    true
}

/// The canary Services exist, select the new revision and have `needed` ready endpoints.
fn canary_services(
    d: &mut Draft<'_>,
    plan: &spec::Plan,
    view: &DeploymentView,
    needed: i32,
) -> bool {
    let Some(hash) = view.current().map(|rs| rs.hash.clone()) else {
        d.wait(Who::Pods, "the new ReplicaSet");
        return false;
    };
    let mut notes = read(d);
    let mut done = true;
    for routing in &plan.traffic {
        let pair = ServicePair::of(&routing.service);
        notes.canaries.insert(pair.canary.clone());
        match d.s.services.get(&pair.canary) {
            None => {
                let Some(stable) = d.s.services.get(&routing.service) else { continue };
                let made =
                    canary_service(stable, &pair.canary, (POD_TEMPLATE_HASH, &hash), &owner(d));
                d.after.push(Action::CreateService(Box::new(made)));
                done = false;
            }
            Some(service) if pinned_to(service, POD_TEMPLATE_HASH) != Some(hash.as_str()) => {
                let pinned = pin(service, (POD_TEMPLATE_HASH, &hash));
                d.after.push(Action::PutService(Box::new(pinned)));
                done = false;
            }
            Some(_) => {
                let ready = d.s.endpoints.get(&pair.canary).copied().unwrap_or(0);
                if ready < needed {
                    let text = format!("{ready} of {needed} ready endpoints of {}", pair.canary);
                    d.wait(Who::Router, text);
                    done = false;
                }
            }
        }
    }
    keep(d, &notes);
    if !done {
        d.wait(Who::Router, "the canary Service");
    }
    done
}

/// Every route says exactly this split and its gateways have accepted it.
fn write_routes(d: &mut Draft<'_>, plan: &spec::Plan, split: &Split) -> bool {
    let mut notes = read(d);
    let mut done = true;
    let mut resets = 0;
    for routing in &plan.traffic {
        let pair = ServicePair::of(&routing.service);
        for name in &routing.http_routes {
            let Some(route) = d.s.routes.get(name) else { continue };
            let known = notes.routes.get(name).cloned();
            let rule = routing.rule_name.as_deref();
            let edited = apply_route(route, &pair, rule, split, known.as_ref().map(|k| &k.notes));
            let (edited, saved) = match edited {
                Ok(made) => made,
                Err(e) => {
                    let text = e.to_string();
                    if status::set(d, status::TRAFFIC, true, "RouteUnusable", &text) {
                        d.warn("RouteUnusable", text.clone());
                    }
                    d.wait(Who::Person, text);
                    return false;
                }
            };
            let note = RouteNote {
                service: routing.service.clone(),
                rule: routing.rule_name.clone(),
                notes: saved,
                split: split.clone(),
            };
            if edited.get("spec") != route.get("spec") {
                resets += i32::from(known.is_some_and(|k| k.split == *split));
                d.after.push(Action::PutRoute(Box::new(edited)));
                d.wait(Who::Router, format!("HTTPRoute {name} to be written"));
                done = false;
            } else {
                done &= is_accepted(d, name, route);
            }
            notes.routes.insert(name.clone(), note);
        }
    }
    keep(d, &notes);
    if resets > 0 {
        contended(d, resets);
    }
    done
}

/// Somebody else writes the routes too: said from the first time on, held from the third.
fn contended(d: &mut Draft<'_>, resets: i32) {
    let count = d.released().contended.unwrap_or(0) + resets;
    d.release().contended = Some(count);
    if count == CONTENDED_MAX {
        let text = "somebody else resets the route's weights: exclude spec.rules from that tool";
        status::set(d, status::CONTENDED, true, "RouteContended", text);
        d.warn("RouteContended", text);
    }
}

/// The gateways have accepted the route as it is now.
fn is_accepted(d: &mut Draft<'_>, name: &str, route: &Value) -> bool {
    match accepted(route) {
        Acceptance::Accepted => true,
        Acceptance::Pending { why } => {
            d.wait(Who::Router, format!("HTTPRoute {name}: {why}"));
            false
        }
        Acceptance::Refused { parent, reason, message } => {
            let text = format!("{parent} refuses HTTPRoute {name}: {reason}: {message}");
            if status::set(d, status::TRAFFIC, true, "RouteRefused", &text) {
                d.warn("RouteRefused", text.clone());
            }
            d.wait(Who::Person, text);
            false
        }
    }
}

/// No traffic to the new version, as far as the stable pods carry it; its pods stay.
pub(crate) fn to_stable(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView) -> bool {
    let release = d.released();
    let ready = view.by_hash(&release.stable).map_or(0, crate::workload::ReplicaSetView::ready);
    let carried = way_back::carried_percent(view, &release, ready);
    if plan.traffic.is_empty() {
        return true;
    }
    if carried >= 100 && !pin_stable(d, plan, view) {
        return false;
    }
    back(d, plan, view, carried)
}

/// Takes traffic from the new version as far as the stable pods carry it: `carried` percent of the
/// whole. What is left goes to a canary Service that serves from every revision, so that its own pods
/// may go at any moment.
pub(crate) fn back(
    d: &mut Draft<'_>,
    plan: &spec::Plan,
    view: &DeploymentView,
    carried: i32,
) -> bool {
    let mut notes = read(d);
    let reached = notes.routes.iter().any(|(name, note)| {
        let pair = ServicePair::of(&note.service);
        d.s.routes.get(name).is_some_and(|r| !reach(r, &pair).is_none())
    });
    let mut done = true;
    if reached && carried >= 100 && !pin_stable(d, plan, view) {
        return false;
    }
    if reached && carried < 100 {
        done = widen(d, &notes);
    }
    let most = u8::try_from((100 - carried).clamp(0, 100)).unwrap_or(0);
    for (name, note) in &mut notes.routes {
        let Some(route) = d.s.routes.get(name) else { continue };
        let pair = ServicePair::of(&note.service);
        let split = less(&note.split, most);
        let wanted = apply_route(route, &pair, note.rule.as_deref(), &split, Some(&note.notes))
            .map_or_else(|_| restore_route(route, &pair, Some(&note.notes)), |(edited, _)| edited);
        note.split = split;
        if wanted.get("spec") != route.get("spec") {
            d.after.push(Action::PutRoute(Box::new(wanted)));
            d.wait(Who::Router, format!("HTTPRoute {name} to be written"));
            done = false;
        } else {
            done &= is_accepted(d, name, route);
        }
    }
    let shown = notes.routes.values().next().map(|n| text_of(&n.split));
    if let (Some(t), Some(shown)) = (d.status.traffic.as_mut(), shown) {
        t.desired = Some(shown.clone());
        if done {
            t.observed = Some(shown);
        }
    }
    keep(d, &notes);
    done
}

/// The split with at most `most` percent for the new version; none of it at 0.
fn less(split: &Split, most: u8) -> Split {
    if most == 0 {
        return Split::stable();
    }
    Split { weight: split.weight.map(|w| w.min(most)), mirror: None, ..split.clone() }
}

/// Lets the canary Services serve from every revision.
fn widen(d: &mut Draft<'_>, notes: &Notes) -> bool {
    let mut done = true;
    for name in &notes.canaries {
        let Some(service) = d.s.services.get(name) else { continue };
        if pinned_to(service, POD_TEMPLATE_HASH).is_some() {
            d.after.push(Action::PutService(Box::new(unpin(service, POD_TEMPLATE_HASH))));
            d.wait(Who::Router, format!("Service {name} to serve from every revision"));
            done = false;
        }
    }
    done
}

/// Services serve from every revision and the routes are as the user wrote them. With `cleanup` the
/// canary Services go too.
pub(crate) fn to_native(d: &mut Draft<'_>, cleanup: bool) -> bool {
    let mut notes = read(d);
    let names: Vec<String> = notes.pinned.iter().cloned().collect();
    if !open(d, &names) {
        return false;
    }
    let mut done = true;
    for (name, note) in &mut notes.routes {
        let Some(route) = d.s.routes.get(name) else { continue };
        let pair = ServicePair::of(&note.service);
        let restored = restore_route(route, &pair, Some(&note.notes));
        note.split = Split::stable();
        if restored.get("spec") != route.get("spec") {
            d.after.push(Action::PutRoute(Box::new(restored)));
            d.wait(Who::Router, format!("HTTPRoute {name} to be restored"));
            done = false;
        } else {
            done &= is_accepted(d, name, route);
        }
    }
    if done {
        d.status.traffic = None;
    }
    if done && cleanup {
        for name in &notes.canaries {
            let Some(service) = d.s.services.get(name) else { continue };
            if check_canary_service(service, &owner(d)).is_err() {
                continue;
            }
            let uid = service.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
            d.after.push(Action::DeleteService { name: name.clone(), uid: uid.to_owned() });
            d.wait(Who::Router, format!("Service {name} to go"));
            done = false;
        }
    }
    keep(d, &notes);
    done
}
