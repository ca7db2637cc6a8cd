//! A story as it is played on any cluster: what is awaited may come late, and the rest waits with it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sluice::sim::apiserver::ResourceKey;
use sluice::sim::kubelet::Behaviours;
use sluice::sim::scenario::{Deed, Expect, Objects, Scenario};

use super::record::{Seen, broken, in_order, sequences};
use super::timeline::{stand, timeline};
use super::wishes::Wishes;

/// What is expected may come this much later than the story says.
const PATIENCE: Duration = Duration::from_secs(60);
/// A deed waits so long for what `sim` says was there before it; then it is done as things are.
const PINNED: Duration = Duration::from_secs(20);
/// How often an expectation is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// How pods come up, the same story otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pods {
    /// Ready at once.
    Quick,
    /// Ready after 1 to 3 seconds; the user's `minReadySeconds` is 2.
    Slow,
}

impl Pods {
    pub fn word(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Slow => "slow",
        }
    }
}

/// A story with its manifests.
pub struct Script {
    pub pods: Pods,
    pub scenario: Scenario,
    pub manifests: Vec<Value>,
    /// Requests that may be lost on the real cluster.
    lost: u64,
}

/// The stories in which the native controller takes every pod of one version at once. Until the controller
/// has heard of it, its Service has nobody there: at most five seconds of half the load.
const ALL_AT_ONCE: [(&str, u64); 2] = [
    ("routed_scaled_to_one_leaves_the_stable_pod", 500),
    ("routed_scaled_to_one_while_paused", 500),
];

/// Where stories are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

impl Script {
    /// Reads the story of this name.
    pub fn read(name: &str, pods: Pods) -> Self {
        let file = folder().join(format!("{name}.scenario"));
        let scenario = Scenario::parse(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let world = folder().join(format!("{}.yaml", name.split('_').next().unwrap()));
        let text = std::fs::read_to_string(world).unwrap();
        let parts = text.split("\n---");
        let mut manifests: Vec<Value> =
            parts.map(|part| serde_saphyr::from_str(part).unwrap()).collect();
        for object in &mut manifests {
            object["metadata"].as_object_mut().unwrap().remove("namespace");
            if pods == Pods::Slow && object["kind"] == "Deployment" {
                object["spec"]["minReadySeconds"] = json!(2);
            }
        }
        let lost = ALL_AT_ONCE.iter().find(|(at, _)| *at == name).map_or(0, |(_, lost)| *lost);
        Self { pods, scenario, manifests, lost }
    }

    /// Everything that a release needs is there from the start.
    fn begins_at_rest(&self) -> bool {
        let mut needed = self.manifests.iter().filter(|m| m["metadata"]["name"] != "other");
        needed.all(|manifest| self.scenario.is_early(manifest))
    }

    /// How pods behave in it.
    pub fn kubelet(&self) -> Behaviours {
        let second = SignedDuration::from_secs;
        let mut behaviours = Behaviours::default().ready_after(self.scenario.ready_after);
        if self.pods == Pods::Slow && self.scenario.ready_after.is_zero() {
            behaviours = behaviours.ready_between(second(1), second(3));
        }
        for (image, behaviour) in &self.scenario.ready {
            behaviours.set(image, *behaviour);
        }
        behaviours
    }
}

/// The resource of a manifest.
pub fn resource_of(manifest: &Value) -> ResourceKey {
    let version = manifest["apiVersion"].as_str().unwrap();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let kind = manifest["kind"].as_str().unwrap().to_lowercase();
    ResourceKey::new(group, version, &format!("{kind}s"))
}

/// A cluster on which stories can be played.
pub trait Cluster {
    /// What time it is there.
    fn now(&self) -> Timestamp;
    /// Lets time pass.
    async fn pass(&mut self, span: Duration);
    /// The objects of the story's namespace as they are.
    fn objects(&self) -> Objects;
    /// Creates one object of the user's; the answer.
    async fn create(&mut self, manifest: &Value) -> Result<Value, String>;
    /// Does what the story says.
    async fn perform(&mut self, deed: &Deed) -> Result<(), String>;
    /// Everything that happened.
    fn changes(&mut self) -> Vec<Seen>;
}

/// What came of a story.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was not as it should be.
    pub bad: String,
    /// By image: the sizes of its ReplicaSet.
    pub sizes: BTreeMap<String, Vec<i64>>,
    /// How many changes were checked.
    pub changes: usize,
    /// By line of a deed: where the story stood when it was done.
    pub stands: Stands,
    /// Deeds that were done though the story did not stand where it stood on `sim`.
    pub unpinned: Vec<String>,
    /// What happened, to be read where something is bad.
    pub timeline: String,
}

/// By line of a deed: where a story stood.
pub type Stands = BTreeMap<usize, Vec<String>>;

async fn await_it<C: Cluster>(
    cluster: &mut C,
    test: impl Fn(&Objects) -> Result<(), String>,
) -> Result<(), String> {
    await_for(PATIENCE, cluster, test).await
}

async fn await_for<C: Cluster>(
    patience: Duration,
    cluster: &mut C,
    test: impl Fn(&Objects) -> Result<(), String>,
) -> Result<(), String> {
    let end = cluster.now() + patience;
    loop {
        let found = test(&cluster.objects());
        if found.is_ok() || cluster.now() >= end {
            return found;
        }
        cluster.pass(LOOK).await;
    }
}

/// Plays it; each deed waits for where the story stood on `sim`, if that is known.
pub async fn play<C: Cluster>(cluster: &mut C, script: &Script, pins: Option<&Stands>) -> Outcome {
    let mut out = Outcome::default();
    if let Err(text) = play_to(cluster, script, pins, &mut out).await {
        writeln!(out.bad, "{text}").unwrap();
    }
    out
}

async fn play_to<C: Cluster>(
    cluster: &mut C,
    script: &Script,
    pins: Option<&Stands>,
    out: &mut Outcome,
) -> Result<(), String> {
    let mut wishes = create_all(cluster, script).await?;
    if script.begins_at_rest() {
        let begun = await_it(cluster, at_rest).await;
        begun.map_err(|e| format!("it never became Healthy: {e}"))?;
    }
    let first = cluster.changes().iter().map(|change| change.version).max().unwrap_or(0);
    let start = cluster.now();
    // Before the first pods were ready nobody could answer.
    let unanswered = cluster.objects().failed_elsewhere;
    let lost = pins.map_or(0, |_| script.lost);
    let late = play_lines(cluster, script, (pins, start), &mut wishes, out).await?;
    if let Some(until) = script.scenario.until {
        wait_until(cluster, start + until + late).await;
    }
    for (number, text, expect) in &script.scenario.expects {
        let unmet = await_it(cluster, |objects| {
            let mut objects = objects.clone();
            objects.failed_elsewhere -= unanswered;
            objects.failed_elsewhere = objects.failed_elsewhere.saturating_sub(lost);
            expect.check(&objects)
        });
        if let Err(found) = unmet.await {
            writeln!(out.bad, "line {number}: {text}: {found}").unwrap();
        }
    }
    let fulfilled = |objects: &Objects| match wishes.unfulfilled(objects) {
        Some(text) => Err(text),
        None => Ok(()),
    };
    if let Err(found) = await_it(cluster, fulfilled).await {
        writeln!(out.bad, "at the end {found}").unwrap();
    }
    let changes = in_order(cluster.changes());
    // A route that comes before its Service is the user's own doing.
    let early = |text: &String| text.contains("no_traffic_to_service") && !script.begins_at_rest();
    for text in broken(&changes, first, wishes.budget()).into_iter().filter(|t| !early(t)) {
        writeln!(out.bad, "{text}").unwrap();
    }
    out.sizes = sequences(&changes);
    out.changes = changes.len();
    out.timeline = timeline(&changes);
    if !out.bad.is_empty() {
        let objects = cluster.objects();
        let status = objects.get("rollout", "web").map(|rollout| rollout["status"].to_string());
        writeln!(out.bad, "{}", status.unwrap_or_default()).unwrap();
    }
    Ok(())
}

/// Plays line after line; says how much later than the story the cluster was.
async fn play_lines<C: Cluster>(
    cluster: &mut C,
    script: &Script,
    (pins, start): (Option<&Stands>, Timestamp),
    wishes: &mut Wishes,
    out: &mut Outcome,
) -> Result<SignedDuration, String> {
    let mut late = SignedDuration::ZERO;
    for line in &script.scenario.lines {
        wait_until(cluster, start + line.at + late).await;
        let began = cluster.now();
        let pin = pins.and_then(|all| all.get(&line.number));
        let pinned = |objects: &Objects| match pin {
            Some(pin) if *pin != stand(objects) => Err(format!("{pin:?}, {:?}", stand(objects))),
            _ => Ok(()),
        };
        if let Err(text) = await_for(PINNED, cluster, pinned).await {
            out.unpinned.push(format!("line {}: {text}", line.number));
        }
        let objects = cluster.objects();
        let deed = line.act.decide(&objects, &script.manifests)?;
        let result = if let Deed::Expect(expect) = &deed {
            await_it(cluster, |objects| expect.check(objects)).await
        } else {
            out.stands.insert(line.number, stand(&objects));
            wishes.done(&deed, &objects);
            do_it(cluster, &deed, wishes).await
        };
        if let Err(found) = result {
            writeln!(out.bad, "line {}: {}: {found}", line.number, line.text).unwrap();
        }
        late += cluster.now().duration_since(began);
    }
    Ok(late)
}

async fn do_it<C: Cluster>(
    cluster: &mut C,
    deed: &Deed,
    wishes: &mut Wishes,
) -> Result<(), String> {
    let Deed::Create { key, body } = deed else { return cluster.perform(deed).await };
    let answer = cluster.create(body).await?;
    wishes.created(&key.plural, &answer);
    Ok(())
}

async fn create_all<C: Cluster>(cluster: &mut C, script: &Script) -> Result<Wishes, String> {
    let mut wishes = Wishes::default();
    for manifest in script.manifests.iter().filter(|m| script.scenario.is_early(m)) {
        let answer = cluster.create(manifest).await?;
        wishes.created(&resource_of(manifest).plural, &answer);
    }
    Ok(wishes)
}

/// The Rollout is healthy and every pod available.
fn at_rest(objects: &Objects) -> Result<(), String> {
    let web = objects.get("deployment", "web").cloned().unwrap_or_default();
    let available = &web["status"]["availableReplicas"];
    if *available != web["spec"]["replicas"] {
        return Err(format!("{available} pods are available"));
    }
    Expect::Phase("web".into(), "Healthy".into()).check(objects)
}

async fn wait_until<C: Cluster>(cluster: &mut C, at: Timestamp) {
    let span = at.duration_since(cluster.now());
    if let Ok(span) = Duration::try_from(span) {
        cluster.pass(span).await;
    }
}
