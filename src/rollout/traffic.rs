//! Traffic of a release: Services pinned, canary Services made, routes edited and accepted, and all of
//! it taken back. Every function says `true` when what it wants is observed.
//!
//! No order of these writes leaves a Service without a ready endpoint that had one: the stable Service
//! is pinned only while the stable revision has the ready pods for its share, and a canary Service gets
//! traffic only while it has ready endpoints; where its pods must go while it still has traffic, it is
//! widened first.

use std::collections::BTreeSet;

use serde_json::Value;

use super::accepted::{Way, Words, title};
use super::notes::{Notes, RouteNote, as_it_is, given_weights, is_given, keep, less, read};
use super::types::{Action, Who};
use super::usable::{check, owner};
use super::{Draft, back as way_back, let_go, status, steps};
use crate::api::status::TrafficStatus;
use crate::spec::{self, StepPlan, Traffic};
use crate::traffic::{
    ServicePair, Split, apply_route, canary_service, check_canary_service, pin, pinned_to, reach,
    restore_route, unpin,
};
use crate::workload::{DeploymentView, POD_TEMPLATE_HASH, ReplicaSetView};

/// Resets of a route by somebody else in one step before the release holds.
const CONTENDED_MAX: i32 = 3;

/// The split that a step asks for.
pub(super) fn split_of(step: &StepPlan) -> Split {
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
        return to_native(d, Way::Forward, false);
    }
    let k = steps::aim_of(step, view.replicas);
    if k >= view.replicas {
        return open_stable(d);
    }
    pin_stable(d, view, k)
}

/// Pins the stable Services, so that new pods get no traffic by accident. While a version in between
/// still has pods that carry traffic, and the stable one cannot carry all of it, nothing is pinned; nor while
/// the stable version lacks pods for a step of `k` new ones.
fn pin_stable(d: &mut Draft<'_>, view: &DeploymentView, k: i32) -> bool {
    let stable = d.released().stable;
    if stable_ready(d, view) == 0 || between_serves(d, view) || lacking(d, view, k).is_some() {
        return true;
    }
    let mut notes = read(d);
    let mut done = true;
    let names = services(d);
    for name in &names {
        let Some(service) = d.s.services.get(name) else { continue };
        if pinned_to(service, POD_TEMPLATE_HASH) == Some(stable.as_str()) {
            continue;
        }
        notes.pinned.insert(name.clone());
        let pinned = pin(service, (POD_TEMPLATE_HASH, &stable));
        d.after.push(Action::PutService(Box::new(pinned)));
        d.wait(Who::Router, format!("Service {name} to be pinned"));
        done = false;
    }
    keep(d, &notes);
    done && endpoints_ready(d, &names)
}

/// A version in between has pods, and the stable one cannot carry everything yet.
fn between_serves(d: &Draft<'_>, view: &DeploymentView) -> bool {
    steps::middle_of(d, view).next().is_some() && carried(d, view) < 100
}

/// The stable pods that are ready now.
fn stable_ready(d: &Draft<'_>, view: &DeploymentView) -> i32 {
    view.by_hash(&d.released().stable).map_or(0, ReplicaSetView::ready)
}

/// How much of the whole load they may carry.
fn carried(d: &Draft<'_>, view: &DeploymentView) -> i32 {
    way_back::carried_percent(view, &d.released(), stable_ready(d, view))
}

/// The stable pods that are ready and those that it takes before an open Service may be pinned to them: as
/// many as serve its share, as the routes give it now, and no more than the step leaves, but for the user's
/// `maxUnavailable`. None is lacking while no other version would serve either.
fn lacking(d: &mut Draft<'_>, view: &DeploymentView, k: i32) -> Option<(i32, i32)> {
    let release = d.released();
    let others = view.active().any(|rs| rs.hash != release.stable && rs.ready() > 0);
    if !others || !is_open(d) {
        return None;
    }
    let (least, _) = given_weights(d, &read(d));
    let left = 100 - i32::from(least);
    let (_, unavailable) = crate::workload::view::budget(&release.originals, view.replicas);
    let share = view.replicas.saturating_mul(left).saturating_add(99) / 100;
    let needed = (share.min(view.replicas - k) - unavailable).max(1);
    let ready = stable_ready(d, view);
    (ready < needed).then_some((ready, needed))
}

/// A stable Service serves from more than the stable version.
pub(super) fn is_open(d: &mut Draft<'_>) -> bool {
    let stable = d.released().stable;
    let names = services(d);
    let mut found = names.iter().filter_map(|name| d.s.services.get(name));
    found.any(|service| pinned_to(service, POD_TEMPLATE_HASH) != Some(stable.as_str()))
}

/// The stable Services: those of the plan, and those that the release has changed. The way back needs
/// no valid plan.
pub(super) fn services(d: &mut Draft<'_>) -> BTreeSet<String> {
    let notes = read(d);
    let mut names = notes.pinned;
    names.extend(notes.routes.into_values().map(|note| note.service));
    if let Ok(plan) = d.spec() {
        names.extend(plan.traffic.iter().map(|t| t.service.clone()));
    }
    names
}

/// Before pods move: no Service stays pinned to a version that has, or is about to have, no ready pod.
pub(crate) fn keep_carried(d: &mut Draft<'_>, view: &DeploymentView, k: i32) -> bool {
    if carries(d, view, k) { true } else { open_stable(d) }
}

/// While the routes give the new version traffic: no canary Service stays pinned to pods of which none is
/// ready. Scaling takes them (4 of 10 scaled to 1 leaves the stable pod), or they crash. Until one is
/// ready again the Service serves from every revision, so that its share is answered.
pub(crate) fn keep_served(d: &mut Draft<'_>, view: &DeploymentView) {
    let notes = read(d);
    if !is_given(d, &notes) || !carries(d, view, 0) {
        return;
    }
    let dead = notes.canaries.iter().any(|name| {
        let hash = d.s.services.get(name).and_then(|s| pinned_to(s, POD_TEMPLATE_HASH));
        hash.is_some_and(|hash| view.by_hash(hash).is_none_or(|rs| rs.ready() == 0))
    });
    if dead {
        widen(d, &notes);
    }
}

/// The stable version keeps pods in this step, and one of them is ready.
fn carries(d: &Draft<'_>, view: &DeploymentView, k: i32) -> bool {
    k < view.replicas && stable_ready(d, view) > 0
}

/// Every stable Service has a ready endpoint.
fn endpoints_ready(d: &mut Draft<'_>, services: &BTreeSet<String>) -> bool {
    for name in services.iter().filter(|name| d.s.services.contains_key(*name)) {
        if d.s.endpoints.get(name).copied().unwrap_or(0) == 0 {
            d.wait(Who::Pods, format!("a ready endpoint of Service {name}"));
            return false;
        }
    }
    true
}

/// Takes the pins of the stable Services away: they serve from every revision.
pub(crate) fn open_stable(d: &mut Draft<'_>) -> bool {
    let mut done = true;
    for name in &read(d).pinned {
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
    if let Some(what) = lacks_stable(d, view, step) {
        d.wait(Who::Pods, what);
        return false;
    }
    give(d, plan, view, steps::aim_of(step, view.replicas), &split_of(step))
}

/// Gives this traffic to the new version, of which the step, or its part, wants `k` pods.
pub(crate) fn give(
    d: &mut Draft<'_>,
    plan: &spec::Plan,
    view: &DeploymentView,
    k: i32,
    split: &Split,
) -> bool {
    if plan.traffic.is_empty() || split.is_stable() {
        return true;
    }
    if !check(d, plan) {
        return false;
    }
    // After a scale event the stable version may have pods again that it had not.
    if carries(d, view, k) && !pin_stable(d, view, k) {
        return false;
    }
    desire(d, split);
    let needed = (k - plan.failure_threshold.of(k)).max(1);
    canary_services(d, plan, view, (needed, split)) && ask(d, plan, split)
}

fn desire(d: &mut Draft<'_>, split: &Split) {
    let observed = d.status.traffic.as_ref().and_then(|t| t.observed.clone());
    d.status.traffic = Some(TrafficStatus { desired: Some(text_of(split)), observed });
}

/// The routes give this traffic, and their gateways have accepted it.
pub(super) fn ask(d: &mut Draft<'_>, plan: &spec::Plan, split: &Split) -> bool {
    desire(d, split);
    if !write_routes(d, plan, split) {
        return false;
    }
    let text = text_of(split);
    if let Some(t) = d.status.traffic.as_mut()
        && t.observed.as_deref() != Some(text.as_str())
    {
        t.observed = Some(text.clone());
        d.event("TrafficMoved", format!("the new version has {text} of the traffic"));
    }
    true
}

/// What is waited for while the stable Service is open and the stable version lacks pods for what the step
/// leaves to it.
pub(crate) fn lacks_stable(
    d: &mut Draft<'_>,
    view: &DeploymentView,
    step: &StepPlan,
) -> Option<String> {
    let k = steps::aim_of(step, view.replicas);
    if !moves(step) || !carries(d, view, k) || between_serves(d, view) {
        return None;
    }
    let (ready, needed) = lacking(d, view, k)?;
    let number = d.released().step + 1;
    Some(format!("step {number}: {needed} stable pods for its traffic, {ready} are ready"))
}

/// The step's weight is in a route and not noted yet: the pass that wrote it has told of the step's pods, and
/// its status waits for the router's word.
pub(crate) fn is_on_its_way(d: &Draft<'_>, step: &StepPlan) -> bool {
    let split = split_of(step);
    read(d).routes.iter().any(|(key, note)| {
        let is = d.s.routes.get(key).map(|r| reach(r, &ServicePair::of(&note.service)).weight);
        note.split != split && note.is_of(&split) && is == Some(split.weight)
    })
}

/// The canary Services exist, select the new revision and have `needed` ready endpoints. What restores the
/// routes is noted with the Services, so that one status tells of both.
fn canary_services(
    d: &mut Draft<'_>,
    plan: &spec::Plan,
    view: &DeploymentView,
    (needed, split): (i32, &Split),
) -> bool {
    let Some((hash, count)) = view.current().map(|rs| (rs.hash.clone(), rs.ready())) else {
        d.wait(Who::Pods, "the new ReplicaSet");
        return false;
    };
    let mut notes = read(d);
    if count == 0 && is_given(d, &notes) {
        d.wait(Who::Pods, "a new pod to be ready: until then its traffic goes to every version");
        return false;
    }
    let mut done = true;
    for routing in &plan.traffic {
        let pair = ServicePair::of(&routing.service);
        if notes.canaries.insert(pair.canary.clone()) {
            note_routes(d, routing, split, &mut notes);
        }
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

/// What restores the routes, before anything is written to them. A split by more than a weight is noted
/// with its first write, so that a match that nobody wrote is not taken for one that somebody removed.
fn note_routes(d: &Draft<'_>, routing: &spec::TrafficRouting, split: &Split, notes: &mut Notes) {
    let Some(first) = split.weight.map(|_| Split::percent(0)) else { return };
    if *split != (Split { weight: split.weight, ..Split::stable() }) {
        return;
    }
    let pair = ServicePair::of(&routing.service);
    for named in &routing.routes {
        let Some(route) = d.s.routes.get(&named.key()) else { continue };
        let rule = routing.rule_name.as_deref();
        let Ok((_, saved)) = apply_route(route, &pair, rule, split, None) else { continue };
        let note = RouteNote::new(routing, saved, first.clone());
        notes.routes.entry(named.key()).or_insert(note);
    }
}

/// Every route says exactly this split and its gateways have accepted it.
fn write_routes(d: &mut Draft<'_>, plan: &spec::Plan, split: &Split) -> bool {
    let mut notes = read(d);
    let mut done = true;
    let mut resets = 0;
    let mut words = Words::on(Way::Forward);
    for routing in &plan.traffic {
        let pair = ServicePair::of(&routing.service);
        for named in &routing.routes {
            let Some(route) = d.s.routes.get(&named.key()) else { continue };
            let known = notes.routes.remove(&named.key());
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
            let mut note = RouteNote::new(routing, saved, split.clone());
            if let Some(known) = known {
                note.go_on(&known);
            }
            if edited.get("spec") != route.get("spec") {
                resets += i32::from(note.is_undone(route));
                d.after.push(Action::PutRoute(Box::new(edited)));
                d.wait(Who::Router, format!("{named} to be written"));
                done = false;
            } else {
                let since = note.is_seen(d.now);
                words.hear(d, route, since);
            }
            notes.routes.insert(named.key(), note);
        }
    }
    keep(d, &notes);
    if resets > 0 {
        contended(d, resets);
    }
    words.end(d) && done
}

/// Somebody else writes the routes too: they are written again twice, then the release holds.
fn contended(d: &mut Draft<'_>, resets: i32) {
    let count = d.released().contended.unwrap_or(0) + resets;
    d.release().contended = Some(count);
    if count >= CONTENDED_MAX {
        let text = "somebody else resets the route's weights: exclude spec.rules from that tool";
        status::set(d, status::CONTENDED, true, "RouteContended", text);
        d.warn("RouteContended", text);
        let release = d.release();
        release.held = Some(text.to_owned());
        release.contended = None;
    }
}

/// No traffic to the new version, as far as the stable pods carry it; its pods stay.
pub(crate) fn to_stable(d: &mut Draft<'_>, view: &DeploymentView, way: Way) -> bool {
    let carried = carried(d, view);
    if services(d).is_empty() {
        return true;
    }
    if carried >= 100 && !pin_stable(d, view, 0) {
        return false;
    }
    back(d, view, carried, way)
}

/// Takes traffic from the new version as far as the stable pods carry it: `carried` percent of the
/// whole. What is left goes to a canary Service that serves from every revision, so that its own pods
/// may go at any moment.
pub(crate) fn back(d: &mut Draft<'_>, view: &DeploymentView, carried: i32, way: Way) -> bool {
    let mut done = true;
    if is_reached(d) {
        if carried >= 100 && !pin_stable(d, view, 0) {
            return false;
        }
        if carried < 100 {
            done = widen(d, &read(d));
        }
    }
    lower(d, carried, way, &Split::stable()) && done
}

/// On the way to a smaller step traffic leaves the new version before its pods do. The canary Service keeps
/// its pin: its pods go one by one, each after a stable one is there for it, so that no pod carries more than
/// in one of the two steps, or than one of `n - maxUnavailable` would.
///
/// A gateway that says nothing is not waited for longer than on the way back: no pod is late meanwhile.
pub(crate) fn leave(d: &mut Draft<'_>, view: &DeploymentView, step: &StepPlan) -> bool {
    let k = steps::aim_of(step, view.replicas);
    if k >= view.replicas || !moves(step) || !is_reached(d) {
        return true;
    }
    if !pin_stable(d, view, k) {
        return false;
    }
    let release = d.released();
    let min_ready = release.originals.min_ready_seconds.unwrap_or(0);
    let stable = view.by_hash(&release.stable);
    let ready = stable.map_or(0, |rs| rs.available_after(min_ready, d.now).0);
    let carried = way_back::carried_percent(view, &release, ready);
    lower(d, carried, Way::Back, &split_of(step))
}

/// A route gives the new version traffic.
fn is_reached(d: &Draft<'_>) -> bool {
    read(d).routes.iter().any(|(name, note)| {
        let pair = ServicePair::of(&note.service);
        d.s.routes.get(name).is_some_and(|r| !reach(r, &pair).is_none())
    })
}

/// The routes give the new version what the stable pods do not carry, and not less than `least`.
fn lower(d: &mut Draft<'_>, carried: i32, way: Way, least: &Split) -> bool {
    let mut notes = read(d);
    let mut done = true;
    let mut resets = 0;
    let mut words = Words::on(way);
    let most = u8::try_from((100 - carried).clamp(0, 100)).unwrap_or(0);
    for (name, note) in &mut notes.routes {
        let Some(route) = d.s.routes.get(name) else { continue };
        let pair = ServicePair::of(&note.service);
        let split = less(&as_it_is(route, &pair, &note.split), most, least);
        let wanted = apply_route(route, &pair, note.rule.as_deref(), &split, Some(&note.notes))
            .map_or_else(|_| restore_route(route, &pair, Some(&note.notes)), |(edited, _)| edited);
        note.ask(split);
        if wanted.get("spec") != route.get("spec") {
            resets += i32::from(!least.is_stable() && note.is_undone(route));
            d.after.push(Action::PutRoute(Box::new(wanted)));
            d.wait(Who::Router, format!("{} to be written", title(route)));
            done = false;
        } else {
            let since = note.is_seen(d.now);
            words.hear(d, route, since);
        }
    }
    if words.is_overdue() {
        done &= widen(d, &notes);
    }
    done &= words.end(d);
    let shown = notes.routes.values().next().map(|n| text_of(&n.split));
    if let (Some(t), Some(shown)) = (d.status.traffic.as_mut(), shown) {
        t.desired = Some(shown.clone());
        // Of the step's own split its step tells, when all of it is there.
        if done && (least.is_stable() || shown != text_of(least)) {
            t.observed = Some(shown);
        }
    }
    keep(d, &notes);
    if resets > 0 {
        contended(d, resets);
    }
    done
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
pub(crate) fn to_native(d: &mut Draft<'_>, way: Way, cleanup: bool) -> bool {
    let mut notes = read(d);
    // A version that is left must not get back what the routes no longer give it: its pin goes last.
    let pinned = way == Way::Back && is_carried(d);
    if !pinned && !open_stable(d) {
        return false;
    }
    let mut done = true;
    let mut words = Words::on(way);
    for (name, note) in &mut notes.routes {
        let Some(route) = d.s.routes.get(name) else { continue };
        let pair = ServicePair::of(&note.service);
        let restored = restore_route(route, &pair, Some(&note.notes));
        note.ask(Split::stable());
        if restored.get("spec") != route.get("spec") {
            d.after.push(Action::PutRoute(Box::new(restored)));
            d.wait(Who::Router, format!("{} to be restored", title(route)));
            done = false;
        } else {
            let since = note.is_seen(d.now);
            words.hear(d, route, since);
        }
    }
    done &= words.end(d);
    done = done && open_stable(d);
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

/// The stable pods carry everything.
fn is_carried(d: &Draft<'_>) -> bool {
    let view = d.s.workload.as_ref().filter(|view| !let_go::other(d, view));
    view.is_some_and(|view| carried(d, view) >= 100)
}
