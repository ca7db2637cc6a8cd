//! What a release looks like to a person: where it is, why, what next.

use std::fmt::Write as _;

use anyhow::bail;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::Api;

use super::args::{Cluster, Named, Output};
use super::client::{find, list};
use super::status::Around;
use crate::api::Rollout;
use crate::api::rollout::Step;
use crate::api::status::{HookStatus, Phase, ReleaseStatus, RolloutStatus, Stage, StepState};
use crate::clock::{Clock, SystemClock};
use crate::rollout;

/// Conditions that are there only while something is wrong.
const WRONG: [&str; 8] = [
    "AnalysisBlocked",
    "Conflict",
    "InvalidSpec",
    "Refused",
    "Released",
    "RouteContended",
    "TrafficBlocked",
    "Unsupported",
];

/// Prints a list of Rollouts.
///
/// # Errors
/// The API server refuses.
pub async fn get(
    cluster: &Cluster,
    name: Option<&str>,
    everywhere: bool,
    output: Output,
) -> anyhow::Result<String> {
    let (client, namespace) = cluster.connect().await?;
    let items = match name {
        Some(name) => vec![find(&client, &namespace, name).await?],
        None => {
            let api: Api<Rollout> = if everywhere {
                Api::all(client.clone())
            } else {
                Api::namespaced(client.clone(), &namespace)
            };
            list(&api).await?
        }
    };
    match (output, items.as_slice()) {
        // One that was named is an object, as kubectl prints it.
        (Output::Json, [one]) if name.is_some() => Ok(serde_json::to_string_pretty(one)?),
        (Output::Yaml, [one]) if name.is_some() => Ok(serde_saphyr::to_string(one)?),
        (Output::Json, all) => Ok(serde_json::to_string_pretty(all)?),
        (Output::Yaml, all) => Ok(serde_saphyr::to_string(&all)?),
        (Output::Text, []) if everywhere => Ok("no Rollouts in any namespace".to_owned()),
        (Output::Text, []) => Ok(format!("no Rollouts in namespace {namespace}; -A looks in all")),
        (Output::Text, all) => Ok(table(all, everywhere)),
    }
}

fn table(items: &[Rollout], everywhere: bool) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    let mut head = vec!["NAME", "PHASE", "STEP", "WEIGHT", "READY", "VERDICT", "WAITING FOR"];
    if everywhere {
        head.insert(0, "NAMESPACE");
    }
    table.set_header(head);
    for item in items {
        let s = item.status.clone().unwrap_or_default();
        let dash = || "-".to_owned();
        let mut row = vec![
            item.metadata.name.clone().unwrap_or_default(),
            s.phase.map_or_else(dash, |p| format!("{p:?}")),
            s.step.as_ref().map_or_else(dash, |s| s.progress.clone()),
            s.traffic.as_ref().and_then(|t| t.observed.clone()).unwrap_or_else(dash),
            s.ready.clone().unwrap_or_else(dash),
            s.verdict.clone().unwrap_or_else(dash),
            why(&s).unwrap_or_else(dash),
        ];
        if everywhere {
            row.insert(0, item.metadata.namespace.clone().unwrap_or_default());
        }
        table.add_row(row);
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// What a Rollout waits for; after a release that failed also why it did.
fn why(s: &RolloutStatus) -> Option<String> {
    let last = s.last_release.as_ref().filter(|last| last.decision != "Promoted");
    let reason = last.filter(|_| s.release.is_none()).and_then(|last| last.reason.as_ref());
    match (&s.waiting_for, reason) {
        (Some(waiting), Some(reason)) if !waiting.contains(reason.as_str()) => {
            Some(format!("{waiting} ({reason})"))
        }
        (waiting, _) => waiting.clone(),
    }
}

/// One Rollout in full, in colours where `colours` says so.
#[must_use]
pub fn page(rollout: &Rollout, around: &Around, colours: bool) -> String {
    let s = rollout.status.clone().unwrap_or_default();
    let mut out = String::new();
    let name = rollout.metadata.name.as_deref().unwrap_or_default();
    let namespace = rollout.metadata.namespace.as_deref().unwrap_or_default();
    let workload = &rollout.spec.workload_ref;
    let mut line = |key: &str, value: String| {
        let _ok = writeln!(out, "{key:<10} {value}");
    };
    let because = |reason: Option<&str>| reason.map(|m| format!(": {m}")).unwrap_or_default();
    let image = around.image.as_ref().map(|i| format!(", {i}")).unwrap_or_default();
    line("Rollout", format!("{namespace}/{name}  ({} {}{image})", workload.kind, workload.name));
    line("Phase", painted(s.phase.unwrap_or_default(), colours));
    if let Some(waiting) = &s.waiting_for {
        let since = s.release.as_ref().and_then(|r| r.since.as_ref());
        let age = since.map(|t| age(around.now, t.0)).unwrap_or_default();
        line("Waiting", format!("{waiting}{age}"));
    }
    if let Some(command) = next(&s, name, namespace) {
        line("Next", command);
    }
    if let Some(unread) = around.unread(rollout) {
        line("Unread", format!("the controller has not looked at {unread} yet: does it run?"));
    }
    let waiting = s.waiting_for.as_deref().unwrap_or_default();
    let wrong = s.conditions.iter().filter(|c| c.status == "True");
    for c in wrong.filter(|c| WRONG.contains(&c.type_.as_str()) && !waiting.contains(&c.message)) {
        line("Problem", format!("{}: {}", c.type_, c.message));
    }
    if let Some(gate) = &s.gate {
        line("Gate", format!("{:?}{}", gate.kind, because(gate.message.as_deref())));
    }
    if let Some(traffic) = &s.traffic {
        let is = traffic.observed.as_deref().unwrap_or("0%");
        let wanted = traffic.desired.as_deref().unwrap_or("0%");
        let more = if is == wanted { String::new() } else { format!(" (wanted {wanted})") };
        line("Traffic", format!("{is} to the new version{more}"));
    }
    if let Some(ready) = &s.ready {
        let whose = if s.release.is_some() { "new pods" } else { "pods" };
        line("Ready", format!("{ready} {whose}"));
    }
    if let Some(release) = &s.release {
        line("Release", format!("{}{}", release.id, doing(release.stage)));
        if let Some(cause) = &release.cause {
            line("Why", cause.clone());
        }
        for step in steps(rollout, release) {
            line("", step);
        }
    }
    for verdict in &s.verdicts {
        let why = because(verdict.message.as_deref());
        line("Analysis", format!("{} {}{why}", verdict.run, verdict.phase));
    }
    for hook in &s.hooks {
        line("Hook", hook_words(hook));
    }
    if let Some(last) = &s.last_release {
        let span = match (&last.started_at, &last.ended_at) {
            (Some(from), Some(to)) => {
                format!(" at {:.0} after {:#.0}", to.0, to.0.duration_since(from.0))
            }
            _ => String::new(),
        };
        let why = because(last.reason.as_deref());
        line("Last", format!("{} {}{span}{why}", last.id, last.decision));
    }
    out.trim_end().to_owned()
}

/// Nobody waits by parts of a second.
fn age(now: Timestamp, since: Timestamp) -> String {
    format!(", {:#} by now", SignedDuration::from_secs(now.duration_since(since).as_secs()))
}

/// What a release is doing, where it goes through no steps.
fn doing(stage: Stage) -> &'static str {
    match stage {
        Stage::Stepping => "",
        Stage::Finalising => ", the last pods and the cleaning up",
        Stage::RollingBack => ", on its way back",
        Stage::LettingGo => ", being let go",
        Stage::Isolated => ", isolated",
        Stage::Suspended => ", suspended",
    }
}

/// What a person can type now, ready to be copied.
fn next(s: &RolloutStatus, name: &str, namespace: &str) -> Option<String> {
    let stalled = s.conditions.iter().any(|c| c.type_ == "Stalled" && c.status == "True");
    let verbs: &[&str] = match &s.release {
        Some(r) if !stalled || r.stage == Stage::LettingGo => return None,
        Some(r) if r.stage == Stage::Isolated => &["retry", "abort"],
        Some(r) if r.held.is_some() => &["approve", "retry", "abort"],
        Some(r) if r.stage == Stage::Stepping && s.waiting_for.as_ref()?.contains("resume") => {
            &["resume", "abort"]
        }
        Some(r) if r.stage == Stage::Stepping && r.state == StepState::StepPaused => {
            &["approve", "abort"]
        }
        None if super::verbs::holds_a_template(s) => &["retry"],
        _ => return None,
    };
    let line = |verb: &&str| format!("kubectl sluice {verb} {name} -n {namespace}");
    Some(verbs.iter().map(line).collect::<Vec<_>>().join("  |  "))
}

/// A decision of a hook: where it is, after how many calls, and its words.
fn hook_words(hook: &HookStatus) -> String {
    let step = hook.step.map(|n| format!(", step {n}")).unwrap_or_default();
    let calls = if hook.calls > 1 { format!(" after {} calls", hook.calls) } else { String::new() };
    let why = hook.message.as_ref().map(|m| format!(": {m}")).unwrap_or_default();
    format!("{} ({:?}{step}) {:?}{calls}{why}", hook.name, hook.at, hook.state)
}

fn painted(phase: Phase, colours: bool) -> String {
    use owo_colors::OwoColorize;
    let word = format!("{phase:?}");
    match phase {
        _ if !colours => word,
        Phase::Healthy => word.green().to_string(),
        Phase::Failed => word.red().to_string(),
        Phase::Progressing => word.cyan().to_string(),
        _ => word.yellow().to_string(),
    }
}

/// The steps of a release, a line each: where it is has a mark.
fn steps(rollout: &Rollout, release: &ReleaseStatus) -> Vec<String> {
    let steps = rollout.spec.strategy.canary.as_ref().map(|c| c.steps.as_slice());
    let line = |(i, step): (usize, &Step)| {
        let at = i32::try_from(i).unwrap_or(i32::MAX);
        let here = at == release.step && release.stage == Stage::Stepping;
        let mark = match at.cmp(&release.step) {
            std::cmp::Ordering::Less => "done",
            std::cmp::Ordering::Equal if here => "  ->",
            _ => "",
        };
        let replicas = step.replicas.as_ref().map_or_else(String::new, |r| match r {
            IntOrString::Int(n) => n.to_string(),
            IntOrString::String(s) => s.clone(),
        });
        let traffic = step.traffic.as_deref().unwrap_or("-");
        let matches = if step.matches.is_empty() { "" } else { "matches" };
        let title = step.name.as_deref().unwrap_or_default();
        let state = if here { format!("{:?}", release.state) } else { String::new() };
        let text = format!(
            "{mark:<5}step {:<2} {title:<12} pods {replicas:<5} traffic {traffic:<5} {matches:<8} {state}",
            i + 1
        );
        text.trim_end().to_owned()
    };
    steps.unwrap_or_default().iter().enumerate().map(line).collect()
}

/// What would happen next.
///
/// # Errors
/// The API server refuses.
pub async fn plan(named: &Named, output: Output) -> anyhow::Result<String> {
    let (client, namespace) = named.cluster.connect().await?;
    let _exists = find(&client, &namespace, &named.name).await?;
    let world = super::let_go::read(&client, &namespace).await?;
    let gate = world.gate_account(&namespace);
    let account = match gate {
        Some(account) => account,
        None => super::let_go::who_am_i(&client).await?,
    };
    let Some(snapshot) = world.snapshot(&namespace, &named.name, &account) else {
        bail!("Rollout {} is gone", named.name);
    };
    let mut plan = rollout::plan(&snapshot, SystemClock.now());
    // What the controller has proven is in its memory; that it has is in the status.
    if plan.status.gate.as_ref().is_some_and(|gate| gate.proven_at.is_some()) {
        plan.actions.retain(|action| !matches!(action, rollout::Action::Prove { .. }));
    }
    if output != Output::Text {
        let value = serde_json::json!({
            "actions": plan.actions.iter().map(rollout::describe_action).collect::<Vec<_>>(),
            "waitingFor": plan.waiting.as_ref().map(|w| &w.what),
            "wake": plan.wake.map(|w| w.to_string()),
            "status": plan.status,
        });
        return Ok(match output {
            Output::Yaml => serde_saphyr::to_string(&value)?,
            _ => serde_json::to_string_pretty(&value)?,
        });
    }
    let mut out = String::new();
    for (i, action) in plan.actions.iter().enumerate() {
        let _ok = writeln!(out, "{}. {}", i + 1, rollout::describe_action(action));
    }
    if plan.actions.is_empty() {
        let _ok = writeln!(out, "nothing to write");
    }
    if let Some(waiting) = &plan.waiting {
        let then = if plan.actions.is_empty() { "" } else { "then " };
        let _ok = writeln!(out, "{then}wait: {}", waiting.what);
    }
    if let Some(wake) = plan.wake {
        let _ok = writeln!(out, "at the latest look again at {wake:.0}");
    }
    Ok(out.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNDER_WAY: &str = r#"
metadata: {name: web, namespace: shop}
spec:
  workloadRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  strategy:
    canary:
      steps:
      - {name: first, replicas: 1, pause: {}}
      - {replicas: 50%, traffic: 50%, pause: {}}
status:
  phase: Progressing
  waitingFor: "step 2: an approval"
  ready: 5/5 of 10
  traffic: {desired: 50%, observed: 10%}
  conditions:
  - {type: Stalled, status: "True", reason: Progressing, message: "step 2: an approval",
     lastTransitionTime: "2026-01-05T10:10:30Z"}
  - {type: RouteContended, status: "True", reason: RouteContended,
     message: "somebody else resets the route's weights", lastTransitionTime: "2026-01-05T10:10:30Z"}
  release:
    id: abc-2
    templateHash: abc
    stable: old
    step: 1
    state: StepPaused
    stage: Stepping
    since: "2026-01-05T10:10:30Z"
    attempt: 1
    originals: {paused: false}
  lastRelease:
    id: abc-1
    decision: RolledBack
    reason: "step 1: errors: 0.2 > 0.1"
    startedAt: "2026-01-05T10:00:00Z"
    endedAt: "2026-01-05T10:01:30Z"
"#;

    #[test]
    fn the_page_says_where_the_release_is_what_it_waits_for_and_how_the_last_one_ended() {
        let rollout: Rollout = serde_saphyr::from_str(UNDER_WAY).unwrap();
        // No part of a second is shown.
        let now = "2026-01-05T10:15:00.605288Z".parse().unwrap();
        let around = Around { now, image: Some("web:2".into()), generation: None };
        let page = page(&rollout, &around, false);
        let lines: Vec<&str> = page.lines().collect();
        for wanted in [
            "Rollout    shop/web  (Deployment web, web:2)",
            "Waiting    step 2: an approval, 4m 30s by now",
            "Next       kubectl sluice approve web -n shop  |  kubectl sluice abort web -n shop",
            "Problem    RouteContended: somebody else resets the route's weights",
            "Traffic    10% to the new version (wanted 50%)",
            "           done step 1  first        pods 1     traffic -",
            "             -> step 2               pods 50%   traffic 50%            StepPaused",
            "Last       abc-1 RolledBack at 2026-01-05T10:01:30Z after 1m 30s: step 1: errors: 0.2 > 0.1",
        ] {
            assert!(lines.contains(&wanted), "no line {wanted:?} in\n{page}");
        }
        assert!(!page.contains('\u{1b}'), "no colours where none are wanted");
    }

    #[test]
    fn a_row_of_a_release_that_failed_says_why_it_did() {
        let mut rollout: Rollout = serde_saphyr::from_str(UNDER_WAY).unwrap();
        assert!(!table(&[rollout.clone()], false).contains("0.2 > 0.1"), "another one runs");
        let status = rollout.status.as_mut().unwrap();
        status.release = None;
        status.waiting_for = Some("another template: the newest one failed".to_owned());
        let row = "another template: the newest one failed (step 1: errors: 0.2 > 0.1)";
        assert!(table(&[rollout], false).contains(row));
    }
}
