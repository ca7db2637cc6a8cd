//! `sluice status`: one Rollout, once or until it is done, failed, or waits for a person.
//!
//! A status that does not answer yet what was asked last is never an end: a spec, a workload or a wish
//! that the controller has not read is waited for. So `set image` and `status --watch` in one line of a
//! pipeline follow the new release and not the old one.

use std::io::IsTerminal as _;
use std::pin::pin;
use std::time::Duration;

use anyhow::bail;
use futures::StreamExt;
use jiff::Timestamp;
use kube::api::Api;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::Value;

use super::args::{Named, Output};
use super::client::find;
use super::show::page;
use crate::api::Rollout;
use crate::api::status::{Phase, RolloutStatus, Stage, StepState};
use crate::apply::Http;
use crate::clock::{Clock, SystemClock};

/// Neither an end nor a wait for a person.
const UNDER_WAY: u8 = 3;

/// What is known besides the Rollout.
#[derive(Debug, Clone)]
pub struct Around {
    /// Now.
    pub now: Timestamp,
    /// The images of the workload's template.
    pub image: Option<String>,
    /// The workload's generation.
    pub generation: Option<i64>,
}

impl Around {
    async fn read(client: &kube::Client, rollout: &Rollout) -> Self {
        let namespace = rollout.metadata.namespace.as_deref().unwrap_or_default();
        let name = &rollout.spec.workload_ref.name;
        let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}");
        // Who may not read it, or has none, sees what the Rollout says.
        let workload = Http::get(path).send(client).await.unwrap_or_default();
        let containers = workload.pointer("/spec/template/spec/containers");
        let containers = containers.and_then(Value::as_array).into_iter().flatten();
        let images: Vec<&str> =
            containers.filter_map(|c| c.get("image").and_then(Value::as_str)).collect();
        Self {
            now: SystemClock.now(),
            image: (!images.is_empty()).then(|| images.join(" ")),
            generation: workload.pointer("/metadata/generation").and_then(Value::as_i64),
        }
    }

    /// What the controller has not looked at yet.
    pub(super) fn unread(&self, rollout: &Rollout) -> Option<&'static str> {
        let s = rollout.status.clone().unwrap_or_default();
        let seen = s.canary_status.as_ref().and_then(|c| c.observed_workload_generation);
        if s.observed_generation != rollout.metadata.generation {
            Some("this Rollout's spec")
        } else if is_asked(&s) {
            Some("what was asked for")
        } else if self.generation.zip(seen).is_some_and(|(is, seen)| is > seen) {
            Some("the workload's newest spec")
        } else {
            None
        }
    }
}

/// A wish is in the status: ours, or one of Kruise's ways to approve and to jump.
fn is_asked(s: &RolloutStatus) -> bool {
    let (Some(release), Some(canary)) = (&s.release, &s.canary_status) else {
        return s.request.is_some();
    };
    let stepping = release.stage == Stage::Stepping;
    let approved = canary.current_step_state == Some(StepState::StepReady)
        && release.state != StepState::StepReady;
    let jumped = canary.next_step_index.is_some_and(|n| n > 0 && n != release.step + 2);
    s.request.is_some() || (stepping && (approved || jumped))
}

/// What a program wants to know of a Rollout: 0 done, 1 failed or rolled back, 2 waiting for a person, 3
/// under way.
#[must_use]
pub fn exit_code(rollout: &Rollout, around: &Around) -> u8 {
    if around.unread(rollout).is_some() {
        return UNDER_WAY;
    }
    let s = rollout.status.clone().unwrap_or_default();
    let stalled = s.conditions.iter().any(|c| c.type_ == "Stalled" && c.status == "True");
    match s.phase.unwrap_or_default() {
        Phase::Failed => 1,
        Phase::Healthy | Phase::Disabled if !stalled => {
            let back = s.last_release.is_some_and(|l| l.decision != "Promoted");
            u8::from(back)
        }
        _ if stalled => 2,
        _ => UNDER_WAY,
    }
}

/// Shows one Rollout; with `watch` until it is done, failed or waits for a person.
///
/// # Errors
/// There is none, it goes away, or the API server refuses.
pub(crate) async fn status(
    named: &Named,
    watch: bool,
    timeout: Duration,
    output: Output,
) -> anyhow::Result<u8> {
    let (client, namespace) = named.cluster.connect().await?;
    let rollout = find(&client, &namespace, &named.name).await?;
    let mut shown = Shown { client, output, last: None };
    let code = shown.show(&rollout).await?;
    if !watch || code != UNDER_WAY {
        return Ok(code);
    }
    let long = named.cluster.connect_for_long().await?;
    let api: Api<Rollout> = Api::namespaced(long, &namespace);
    match tokio::time::timeout(timeout, Box::pin(follow(api, &named.name, &mut shown))).await {
        Ok(code) => code,
        Err(_) => {
            let span = humantime::format_duration(timeout);
            super::complain(&format!("{}: still under way after {span}", named.name));
            Ok(UNDER_WAY)
        }
    }
}

/// What was printed, and how.
struct Shown {
    client: kube::Client,
    output: Output,
    last: Option<(Option<RolloutStatus>, Option<&'static str>)>,
}

impl Shown {
    /// Prints what is new; the exit code it stands for.
    async fn show(&mut self, rollout: &Rollout) -> anyhow::Result<u8> {
        let around = Around::read(&self.client, rollout).await;
        let now = Some((rollout.status.clone(), around.unread(rollout)));
        if now != self.last {
            let text = match self.output {
                Output::Text => {
                    let colours = std::io::stdout().is_terminal();
                    let metrics = super::analysis::of_release(&self.client, rollout, colours).await;
                    format!("{}{metrics}", page(rollout, &around, colours))
                }
                Output::Json => serde_json::to_string_pretty(&rollout.status)?,
                Output::Yaml => serde_saphyr::to_string(&rollout.status)?,
            };
            let is_page = self.last.is_some() && self.output == Output::Text;
            super::say(&format!("{}{text}", if is_page { "\n" } else { "" }));
            self.last = now;
        }
        Ok(exit_code(rollout, &around))
    }
}

/// One watch from here to the end: nothing can happen between two looks.
async fn follow(api: Api<Rollout>, name: &str, shown: &mut Shown) -> anyhow::Result<u8> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut stream = pin!(watcher(api, config).default_backoff());
    let mut is_there = false;
    while let Some(event) = stream.next().await {
        let is_gone = match event {
            Ok(watcher::Event::Init) => {
                is_there = false;
                false
            }
            Ok(watcher::Event::InitApply(rollout) | watcher::Event::Apply(rollout)) => {
                is_there = true;
                let code = shown.show(&rollout).await?;
                if code != UNDER_WAY {
                    return Ok(code);
                }
                false
            }
            Ok(watcher::Event::InitDone) => !is_there,
            Ok(watcher::Event::Delete(_)) => true,
            // The backoff spaces the tries: a server that comes back is followed again.
            Err(_) => false,
        };
        if is_gone {
            bail!("Rollout {name} was deleted: the workload stays as its spec.onDelete says");
        }
    }
    bail!("Rollout {name}: the watch ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITING: &str = r#"
metadata: {name: web, namespace: shop, generation: 3}
spec:
  workloadRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  strategy: {canary: {steps: [{replicas: 1, pause: {}}, {replicas: 100%}]}}
status:
  observedGeneration: 3
  phase: Progressing
  canaryStatus: {observedWorkloadGeneration: 7, currentStepState: StepPaused, nextStepIndex: 2}
  conditions:
  - {type: Stalled, status: "True", reason: Progressing, message: "step 1: approval",
     lastTransitionTime: "2026-01-05T10:00:00Z"}
  release: {id: a, templateHash: a, stable: old, startedAt: "2026-01-05T10:00:00Z", stage: Stepping,
            step: 0, state: StepPaused, attempt: 1, originals: {}}
"#;

    fn waiting() -> Rollout {
        serde_saphyr::from_str(WAITING).unwrap()
    }

    fn around(generation: i64) -> Around {
        let now = "2026-01-05T10:15:00Z".parse().unwrap();
        Around { now, image: None, generation: Some(generation) }
    }

    #[test]
    fn a_person_that_must_act_is_another_exit_code_than_a_release_under_way() {
        let mut rollout = waiting();
        assert_eq!(exit_code(&rollout, &around(7)), 2);
        let status = rollout.status.as_mut().unwrap();
        status.conditions.clear();
        assert_eq!(exit_code(&rollout, &around(7)), UNDER_WAY);
        rollout.status.as_mut().unwrap().phase = Some(Phase::Failed);
        assert_eq!(exit_code(&rollout, &around(7)), 1);
        let status = rollout.status.as_mut().unwrap();
        (status.phase, status.release) = (Some(Phase::Healthy), None);
        assert_eq!(exit_code(&rollout, &around(7)), 0);
    }

    #[test]
    fn what_the_controller_has_not_read_is_under_way() {
        let unread = |change: fn(&mut Rollout), generation| {
            let mut rollout = waiting();
            change(&mut rollout);
            let around = around(generation);
            (exit_code(&rollout, &around), around.unread(&rollout))
        };
        let asked = (UNDER_WAY, Some("what was asked for"));
        let request = |rollout: &mut Rollout| {
            rollout.status.as_mut().unwrap().request = Some(crate::api::status::Request::default());
        };
        assert_eq!(unread(request, 7), asked);
        let approved = |rollout: &mut Rollout| {
            let status = rollout.status.as_mut().unwrap();
            let canary = status.canary_status.as_mut().unwrap();
            canary.current_step_state = Some(StepState::StepReady);
        };
        assert_eq!(unread(approved, 7), asked);
        let jumped = |rollout: &mut Rollout| {
            let status = rollout.status.as_mut().unwrap();
            status.canary_status.as_mut().unwrap().next_step_index = Some(1);
        };
        assert_eq!(unread(jumped, 7), asked);
        let edited = |rollout: &mut Rollout| rollout.metadata.generation = Some(4);
        assert_eq!(unread(edited, 7), (UNDER_WAY, Some("this Rollout's spec")));
        assert_eq!(unread(|_| (), 8), (UNDER_WAY, Some("the workload's newest spec")));
        assert_eq!(unread(|_| (), 7), (2, None));
        let mut rollout = waiting();
        rollout.status.as_mut().unwrap().canary_status = None;
        assert_eq!(around(8).unread(&rollout), None, "a status that says nothing of it");
    }
}
