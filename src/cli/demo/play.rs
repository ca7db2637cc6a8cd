//! The play: apps are set up, new images are set, and what happens is read through the API.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::cast::{Act, Cast, NEW, Nature, OLD, Style};
use super::evidence;
use super::manifests::{self, REPLICAS};
use super::pace::Pace;
use super::report::{Played, Requests};
use super::screen::Screen;
use crate::api::status::Phase;
use crate::api::{AnalysisRun, Rollout};
use crate::clock::{Clock, SystemClock};
use crate::sim::live::{ADMIN, Live};
use crate::sim::load::{Load, Outcomes, Visitor};

/// From a decision to the end of the load, and from there to the count: requests under way end.
const TAIL: Duration = Duration::from_secs(1);
/// The apps must be up and their Rollouts healthy after this.
const SET_UP: Duration = Duration::from_secs(60);

/// One app on the stage, as it was last seen.
pub struct Scene {
    /// The app.
    pub act: Act,
    /// Its Rollout.
    pub rollout: Option<Rollout>,
    /// Ready pods and all pods, by tag.
    pub pods: BTreeMap<String, (usize, usize)>,
    /// Requests per second.
    pub rate: f64,
    /// The share of failed requests, in percent.
    pub failing: f64,
    /// When the new image was set.
    pub started: Option<Timestamp>,
    /// The decision, its reason and its second.
    pub decided: Option<(String, String, f64)>,
    load: Arc<Load>,
    sending: Option<CancellationToken>,
    counted: (Timestamp, Outcomes),
}

/// The stage: a cluster and what is on it.
pub struct Stage<'a> {
    live: &'a Live,
    client: kube::Client,
    pace: Pace,
    /// When the curtain rose.
    pub since: Timestamp,
    /// All apps.
    pub scenes: Vec<Scene>,
}

fn now() -> Timestamp {
    SystemClock.now()
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

impl Scene {
    fn new(act: &Act, pace: &Pace, seed: u64) -> Self {
        Self {
            act: act.clone(),
            rollout: None,
            pods: BTreeMap::new(),
            rate: 0.0,
            failing: 0.0,
            started: None,
            decided: None,
            load: Load::bounded(visitors(act), seed, pace.under_way),
            sending: None,
            counted: (now(), Outcomes::default()),
        }
    }

    /// Sends requests until [`Self::hush`].
    fn call(&mut self, live: &Live, per_second: f64) {
        let stop = CancellationToken::new();
        tokio::spawn(self.load.clone().run(live.gateway(), per_second, stop.clone()));
        self.sending = Some(stop);
    }

    /// The way back to one Service is part of the release: it is called for a moment more.
    fn is_past(&self, at: Timestamp) -> bool {
        let (Some(started), Some((_, _, span))) = (self.started, &self.decided) else {
            return false;
        };
        seconds(started, at) > span + TAIL.as_secs_f64()
    }

    fn hush(&mut self) {
        if let Some(stop) = self.sending.take() {
            stop.cancel();
        }
        self.rate = 0.0;
        self.failing = 0.0;
    }

    /// Rates since the last second that was counted.
    fn count(&mut self, at: Timestamp) {
        let span = seconds(self.counted.0, at);
        if span < 1.0 {
            return;
        }
        let outcomes = self.load.outcomes();
        let new = outcomes.total.saturating_sub(self.counted.1.total);
        let failed = failures(&outcomes).saturating_sub(failures(&self.counted.1));
        self.rate = new as f64 / span;
        self.failing = if new == 0 { 0.0 } else { 100.0 * failed as f64 / new as f64 };
        self.counted = (at, outcomes);
    }

    fn see(&mut self, rollout: Rollout, at: Timestamp) {
        if let (Some(started), None) = (self.started, &self.decided)
            && let Some(last) = rollout.status.as_ref().and_then(|s| s.last_release.clone())
        {
            let reason = last.reason.unwrap_or_default();
            self.decided = Some((last.decision, reason, seconds(started, at)));
        }
        self.rollout = Some(rollout);
    }

    fn is_ready(&self) -> bool {
        let healthy = self
            .rollout
            .as_ref()
            .and_then(|r| r.status.as_ref())
            .is_some_and(|s| s.phase == Some(Phase::Healthy));
        healthy && self.pods.get(OLD).is_some_and(|(ready, _)| *ready == REPLICAS as usize)
    }

    fn played(&self) -> Played {
        let outcomes = self.load.outcomes();
        let bad = self.act.nature != Nature::Good;
        let new = outcomes.answered.get(NEW).copied().unwrap_or_default();
        let (decision, reason, seconds) = self.decided.clone().unwrap_or_else(|| {
            let waiting =
                self.rollout.as_ref().and_then(|r| r.status.as_ref()?.waiting_for.clone());
            let waiting = waiting.unwrap_or_else(|| "nothing".to_owned());
            let span = self.started.map_or(0.0, |started| seconds(started, now()));
            ("Undecided".to_owned(), format!("it waits for {waiting}"), span)
        });
        Played {
            name: self.act.app.to_owned(),
            expected: self.act.nature.expected().to_owned(),
            decision,
            reason,
            seconds: (seconds * 10.0).round() / 10.0,
            requests: Requests {
                total: outcomes.total,
                to_bad: if bad { new } else { 0 },
                failed: failures(&outcomes),
                failed_elsewhere: outcomes.failed_elsewhere,
            },
        }
    }
}

fn failures(outcomes: &Outcomes) -> u64 {
    outcomes.failed.values().sum::<u64>() + outcomes.failed_elsewhere
}

/// Who asks: a plain visitor, and for an A/B test also testers with a header or a cookie.
fn visitors(act: &Act) -> Vec<Visitor> {
    let plain = Visitor { weight: 6, ..Visitor::plain(&act.host()) };
    if act.style != Style::AbTest {
        return vec![plain];
    }
    let tester = |name: &str, value: &str| Visitor {
        weight: 2,
        headers: vec![(name.to_owned(), value.to_owned())],
        ..plain.clone()
    };
    vec![tester("x-tester", "yes"), tester("cookie", "lang=en; beta=1"), plain]
}

impl<'a> Stage<'a> {
    /// Creates the apps and waits until they are up.
    ///
    /// # Errors
    /// The API server refuses, or the apps do not come up.
    pub async fn set(
        live: &'a Live,
        cast: &Cast,
        pace: Pace,
        seed: u64,
        screen: &mut Screen,
    ) -> anyhow::Result<Self> {
        let scenes = cast.acts.iter().zip(0..).map(|(act, i)| {
            let seed = seed.wrapping_mul(100).wrapping_add(i);
            Scene::new(act, &pace, seed)
        });
        let scenes: Vec<Scene> = scenes.collect();
        let client = live.client().await?;
        let mut stage = Self { live, client, pace, since: now(), scenes };
        let mut objects = vec![manifests::template(&pace)];
        for act in &cast.acts {
            objects.extend(manifests::app(act));
            objects.push(manifests::rollout(act, &pace));
        }
        for object in objects {
            let what = format!("{} {}", object["kind"], object["metadata"]["name"]);
            let made = live.server().create(ADMIN, object);
            made.map_err(|refused| anyhow!("{what} was refused: {refused}"))?;
        }
        while !stage.scenes.iter().all(Scene::is_ready) {
            if seconds(stage.since, now()) > SET_UP.as_secs_f64() {
                bail!("the apps are not up after {SET_UP:?}: is this machine very busy?");
            }
            tokio::time::sleep(pace.look).await;
            stage.look(screen).await?;
        }
        Ok(stage)
    }

    /// Plays all releases, some at a time.
    ///
    /// # Errors
    /// The API does not answer.
    pub async fn play(&mut self, screen: &mut Screen) -> anyhow::Result<Vec<Played>> {
        let waves = self.scenes.len().div_ceil(self.pace.at_once);
        for wave in 0..waves {
            let first = wave * self.pace.at_once;
            self.wave(first, screen).await?;
        }
        Ok(self.scenes.iter().map(Scene::played).collect())
    }

    /// Requests for everybody, until the process ends.
    pub fn keep(&mut self) {
        let per_second = self.pace.requests / 3.0;
        for scene in &mut self.scenes {
            scene.call(self.live, per_second);
        }
    }

    async fn wave(&mut self, first: usize, screen: &mut Screen) -> anyhow::Result<()> {
        let Self { live, pace, .. } = *self;
        let on_stage = |scenes: &mut Vec<Scene>, each: &mut dyn FnMut(&mut Scene)| {
            scenes.iter_mut().skip(first).take(pace.at_once).for_each(each);
        };
        on_stage(&mut self.scenes, &mut |scene| scene.call(live, pace.requests));
        self.look_for(pace.warm_up, screen).await?;
        let apps: Vec<&Act> =
            self.scenes.iter().skip(first).take(pace.at_once).map(|scene| &scene.act).collect();
        for act in apps {
            self.release(act).await?;
        }
        let begun = now();
        on_stage(&mut self.scenes, &mut |scene| scene.started = Some(begun));
        loop {
            self.look(screen).await?;
            let at = now();
            let mut is_over = true;
            on_stage(&mut self.scenes, &mut |scene| match scene.is_past(at) {
                true => scene.hush(),
                false => is_over = false,
            });
            if is_over || seconds(begun, now()) > pace.give_up.as_secs_f64() {
                break;
            }
            tokio::time::sleep(pace.look).await;
        }
        on_stage(&mut self.scenes, &mut Scene::hush);
        self.look_for(TAIL, screen).await
    }

    /// What a user does: `kubectl set image`.
    async fn release(&self, act: &Act) -> anyhow::Result<()> {
        let api: Api<Deployment> = Api::default_namespaced(self.client.clone());
        let containers = json!([{"name": "app", "image": act.image(NEW)}]);
        let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
        let patched = api.patch(act.app, &PatchParams::default(), &Patch::Strategic(patch)).await;
        patched.with_context(|| format!("setting the image of {}", act.app))?;
        Ok(())
    }

    async fn look_for(&mut self, span: Duration, screen: &mut Screen) -> anyhow::Result<()> {
        let begun = now();
        while seconds(begun, now()) < span.as_secs_f64() {
            tokio::time::sleep(self.pace.look).await;
            self.look(screen).await?;
        }
        Ok(())
    }

    /// Reads everything through the API and draws it.
    async fn look(&mut self, screen: &mut Screen) -> anyhow::Result<()> {
        let rollouts: Api<Rollout> = Api::default_namespaced(self.client.clone());
        let pods: Api<Pod> = Api::default_namespaced(self.client.clone());
        let rollouts = rollouts.list(&ListParams::default()).await.context("reading Rollouts")?;
        let pods = pods.list(&ListParams::default()).await.context("reading pods")?;
        let at = now();
        for scene in &mut self.scenes {
            scene.pods = count_pods(&pods.items, scene.act.app);
            scene.count(at);
        }
        for rollout in rollouts.items {
            let name = rollout.metadata.name.clone().unwrap_or_default();
            if let Some(scene) = self.scenes.iter_mut().find(|scene| scene.act.app == name) {
                scene.see(rollout, at);
            }
        }
        self.explain().await?;
        screen.show(self, at);
        Ok(())
    }

    /// A promotion needs no reason, but numbers: those that its analyses measured.
    async fn explain(&mut self) -> anyhow::Result<()> {
        let silent = |scene: &Scene| scene.decided.as_ref().is_some_and(|d| d.1.is_empty());
        if !self.scenes.iter().any(silent) {
            return Ok(());
        }
        let runs: Api<AnalysisRun> = Api::default_namespaced(self.client.clone());
        let runs = runs.list(&ListParams::default()).await.context("reading AnalysisRuns")?;
        for scene in self.scenes.iter_mut().filter(|scene| silent(scene)) {
            if let Some((_, reason, _)) = &mut scene.decided {
                *reason = evidence::worst(&runs.items, scene.act.app);
            }
        }
        Ok(())
    }
}

/// Ready pods and all pods of an app, by the tag of their image.
fn count_pods(pods: &[Pod], app: &str) -> BTreeMap<String, (usize, usize)> {
    let mut counts = BTreeMap::<String, (usize, usize)>::new();
    for pod in pods {
        let labels = pod.metadata.labels.as_ref();
        let is_own = labels.and_then(|l| l.get("app")).is_some_and(|own| own == app);
        if !is_own || pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
        let image = container.and_then(|c| c.image.as_deref()).unwrap_or_default();
        let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
        let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
        let is_ready = conditions
            .is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
        let entry = counts.entry(tag.to_owned()).or_default();
        entry.0 += usize::from(is_ready);
        entry.1 += 1;
    }
    counts
}
