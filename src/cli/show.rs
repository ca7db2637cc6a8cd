//! What a release looks like to a person: where it is, why, what next.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{anyhow, bail};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use kube::api::{Api, ListParams};

use super::args::{Cluster, Named, Output};
use super::client::find;
use crate::api::Rollout;
use crate::api::status::{Phase, Stage};
use crate::clock::{Clock, SystemClock};
use crate::rollout;

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
            let list = api.list(&ListParams::default()).await;
            list.map_err(|e| anyhow!("{e}: does this cluster have Sluice? run sluice install"))?
                .items
        }
    };
    match output {
        Output::Json => Ok(serde_json::to_string_pretty(&items)?),
        Output::Yaml => Ok(serde_saphyr::to_string(&items)?),
        Output::Text if items.is_empty() => Ok(format!("no Rollouts in namespace {namespace}")),
        Output::Text => Ok(table(&items, everywhere)),
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
            s.step.map_or_else(dash, |s| s.progress),
            s.traffic.and_then(|t| t.observed).unwrap_or_else(dash),
            s.ready.unwrap_or_else(dash),
            s.verdict.unwrap_or_else(dash),
            s.waiting_for.unwrap_or_else(dash),
        ];
        if everywhere {
            row.insert(0, item.metadata.namespace.clone().unwrap_or_default());
        }
        table.add_row(row);
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// One Rollout in full.
#[must_use]
pub fn page(rollout: &Rollout) -> String {
    let s = rollout.status.clone().unwrap_or_default();
    let mut out = String::new();
    let name = rollout.metadata.name.as_deref().unwrap_or_default();
    let namespace = rollout.metadata.namespace.as_deref().unwrap_or_default();
    let phase = s.phase.unwrap_or_default();
    let workload = &rollout.spec.workload_ref;
    let mut line = |key: &str, value: String| {
        let _ok = writeln!(out, "{key:<10} {value}");
    };
    line("Rollout", format!("{namespace}/{name}  ({} {})", workload.kind, workload.name));
    line("Phase", format!("{phase:?}"));
    if let Some(waiting) = &s.waiting_for {
        line("Waiting", waiting.clone());
    }
    if let Some(gate) = &s.gate {
        let more = gate.message.as_deref().map(|m| format!(": {m}")).unwrap_or_default();
        line("Gate", format!("{:?}{more}", gate.kind));
    }
    if let Some(traffic) = &s.traffic {
        let (wanted, is) = (&traffic.desired, &traffic.observed);
        line(
            "Traffic",
            format!(
                "{} to the new version (wanted {})",
                is.as_deref().unwrap_or("0%"),
                wanted.as_deref().unwrap_or("0%")
            ),
        );
    }
    if let Some(ready) = &s.ready {
        line("Ready", ready.clone());
    }
    if let Some(release) = &s.release {
        line("Release", release.id.clone());
        if let Some(cause) = &release.cause {
            line("Why", cause.clone());
        }
        let steps = rollout.spec.strategy.canary.as_ref().map(|c| c.steps.clone());
        for (i, step) in steps.unwrap_or_default().iter().enumerate() {
            let at = i32::try_from(i).unwrap_or(i32::MAX);
            let mark = match at.cmp(&release.step) {
                std::cmp::Ordering::Less => "done",
                std::cmp::Ordering::Equal if release.stage == Stage::Stepping => "now",
                std::cmp::Ordering::Equal => "-",
                std::cmp::Ordering::Greater => "",
            };
            let replicas = step.replicas.as_ref().map_or_else(String::new, |r| match r {
                k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(n) => n.to_string(),
                k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::String(s) => s.clone(),
            });
            let traffic = step.traffic.clone().unwrap_or_default();
            let matches = if step.matches.is_empty() { "" } else { "matches" };
            let title = step.name.clone().unwrap_or_default();
            let state = if mark == "now" { format!("{:?}", release.state) } else { mark.into() };
            line(
                "",
                format!(
                    "step {:<2} {title:<12} pods {replicas:<5} traffic {traffic:<5} {matches:<8} {state}",
                    i + 1
                ),
            );
        }
    }
    for verdict in &s.verdicts {
        let why = verdict.message.as_deref().map(|m| format!(": {m}")).unwrap_or_default();
        line("Analysis", format!("{} {}{why}", verdict.run, verdict.phase));
    }
    if let Some(last) = &s.last_release {
        let why = last.reason.as_deref().map(|m| format!(": {m}")).unwrap_or_default();
        line("Last", format!("{} {}{why}", last.id, last.decision));
    }
    out.trim_end().to_owned()
}

/// What a program wants to know of a Rollout: 0 done, 1 failed or rolled back, 2 waiting for a person, 3
/// under way.
#[must_use]
pub fn exit_code(rollout: &Rollout) -> u8 {
    let s = rollout.status.clone().unwrap_or_default();
    let fresh = s.observed_generation == rollout.metadata.generation;
    let stalled = s.conditions.iter().any(|c| c.type_ == "Stalled" && c.status == "True");
    match s.phase.unwrap_or_default() {
        Phase::Failed => 1,
        Phase::Healthy | Phase::Disabled if fresh && !stalled => {
            let back = s.last_release.is_some_and(|l| l.decision != "Promoted");
            u8::from(back)
        }
        _ if stalled => 2,
        _ => 3,
    }
}

/// Shows one Rollout; with `watch` until it is done, failed or waits for a person.
///
/// # Errors
/// The API server refuses, or the time is over.
pub async fn status(
    named: &Named,
    watch: bool,
    timeout: Duration,
    output: Output,
) -> anyhow::Result<u8> {
    let (client, namespace) = named.cluster.connect().await?;
    let end = tokio::time::Instant::now() + timeout;
    let mut shown = String::new();
    loop {
        let rollout = find(&client, &namespace, &named.name).await?;
        let code = exit_code(&rollout);
        let text = match output {
            Output::Text => page(&rollout),
            Output::Json => serde_json::to_string_pretty(&rollout.status)?,
            Output::Yaml => serde_saphyr::to_string(&rollout.status)?,
        };
        if text != shown {
            super::say(&text);
            shown = text;
        }
        if !watch || code != 3 {
            return Ok(code);
        }
        if tokio::time::Instant::now() >= end {
            bail!("{}: still under way after {timeout:?}", named.name);
        }
        changed(&client, &namespace, &named.name, end).await;
    }
}

/// Waits for the next change of the Rollout, by a watch and not by asking again and again.
async fn changed(client: &kube::Client, namespace: &str, name: &str, end: tokio::time::Instant) {
    use futures::StreamExt;
    use kube::runtime::watcher;
    let api: Api<Rollout> = Api::namespaced(client.clone(), namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut stream = Box::pin(watcher::watcher(api, config));
    let next = async {
        let mut listed = false;
        while let Some(event) = stream.next().await {
            match event {
                Ok(watcher::Event::InitDone) => listed = true,
                Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_)) if listed => return,
                Ok(_) => {}
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    };
    let _late = tokio::time::timeout_at(end, next).await;
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
    let plan = rollout::plan(&snapshot, SystemClock.now());
    if output != Output::Text {
        let value = serde_json::json!({
            "actions": plan.actions.iter().map(|a| format!("{a:?}")).collect::<Vec<_>>(),
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
        let _ok = writeln!(out, "then wait for {}", waiting.what);
    }
    if let Some(wake) = plan.wake {
        let _ok = writeln!(out, "look again at {wake:.0}");
    }
    Ok(out.trim_end().to_owned())
}
