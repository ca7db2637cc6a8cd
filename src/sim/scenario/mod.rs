//! A scenario: what people and the world do to a cluster, and what must come of it, as lines that read
//! like a report.
//!
//! ```text
//! load web.test 100               # requests a second
//! late service web                # not there at the start: `at 20s apply service web`
//! hook smoke processing ok        # one answer for each call, the last stays
//! answers web:v2 errors 25% latency 400ms
//! ready web:v3 never              # or: after 3s, crash, pull-error
//! at 5s set image web web:v2
//! at 40s expect phase web Failed
//! until 60s
//! expect decision web RolledBack
//! ```
//!
//! Times count from the start. What is not understood is refused with its line. [`run`] plays one on a
//! [`Cluster`] in virtual time: same seed, same transcript.

mod actions;
mod parse;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::apiserver::{ApiStatus, Call, PatchType, Verb};
use super::cluster::{ACCOUNT, Cluster, Options, Transcript, USER};
use super::kubelet;
use super::load::{Outcomes, Visitor};
use super::pods;

pub use actions::{Act, Deed, Expect, Objects};
pub use parse::{Line, Scenario, ScenarioError};

/// When every simulated run begins.
const START: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// What came of a scenario.
#[derive(Debug)]
pub struct Report {
    /// What happened.
    pub transcript: Transcript,
    /// How the requests ended.
    pub outcomes: Outcomes,
    /// Expectations that were not met, with their lines.
    pub unmet: Vec<String>,
    /// Broken invariants.
    pub violations: Vec<String>,
}

impl Report {
    /// True when everything is as it was expected.
    #[must_use]
    pub fn good(&self) -> bool {
        self.unmet.is_empty() && self.violations.is_empty()
    }
}

/// Why a scenario could not be played.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The cluster refused one of its own objects, or a manifest.
    #[error("{what}: {status}")]
    Refused {
        /// What was written.
        what: String,
        /// The answer.
        status: Box<ApiStatus>,
    },
}

/// Kind and name of a manifest, as [`RunError`] says them.
#[must_use]
pub fn title(manifest: &Value) -> String {
    let text = |at: &str| manifest.pointer(at).and_then(Value::as_str).unwrap_or("?");
    format!("{} {}", text("/kind"), text("/metadata/name"))
}

/// Plays a scenario on manifests.
///
/// # Errors
/// A manifest is refused.
pub async fn run(scenario: &Scenario, manifests: &[Value], seed: u64) -> Result<Report, RunError> {
    let mut answers = pods::Behaviours::default();
    for (image, behaviour) in &scenario.answers {
        answers.set(image, behaviour.clone());
    }
    let mut kubelet = kubelet::Behaviours::default().ready_after(scenario.ready_after);
    for (image, behaviour) in &scenario.ready {
        kubelet.set(image, *behaviour);
    }
    let visitors = match &scenario.load {
        Some((host, rate)) => (vec![Visitor::plain(host)], *rate),
        None => (Vec::new(), 0.0),
    };
    let options = Options { start: START, seed, kubelet, answers, visitors };
    let refused = |what: &str| {
        let what = what.to_owned();
        move |status| RunError::Refused { what, status }
    };
    let mut cluster = Cluster::new(options).map_err(refused("the cluster's own objects"))?;
    for manifest in manifests.iter().filter(|m| scenario.is_early(m)) {
        let created = cluster.server.create("user", manifest.clone());
        created.map_err(refused(&title(manifest)))?;
    }
    for (name, words) in &scenario.hooks {
        cluster.hooks.set(name, words.iter().copied());
    }
    let mut unmet = Vec::new();
    for line in &scenario.lines {
        cluster.run_until(at(line.at)).await;
        if let Err(text) = perform(&line.act, &mut cluster, manifests) {
            unmet.push(format!("line {}: {}: {text}", line.number, line.text));
        }
    }
    if let Some(until) = scenario.until {
        cluster.run_until(at(until)).await;
    }
    for (number, text, expect) in &scenario.expects {
        if let Err(found) = expect.check(&objects(&cluster)) {
            unmet.push(format!("line {number}: {text}: {found}"));
        }
    }
    if cluster.fought {
        unmet.push("somebody writes without end: see the transcript".into());
    }
    let violations =
        cluster.violations.iter().map(|(at, v)| format!("{at}: {}: {}", v.name, v.found)).collect();
    Ok(Report { outcomes: cluster.outcomes(), transcript: cluster.transcript, unmet, violations })
}

/// The objects of the namespace as they are now.
fn objects(cluster: &Cluster) -> Objects {
    let mut out = Objects::default();
    out.failed_elsewhere = cluster.outcomes().failed_elsewhere;
    for (kind, key) in Objects::kinds().unwrap_or_default() {
        for object in cluster.server.list(&key, Some("default")) {
            out.add(kind, (*object).clone());
        }
    }
    out
}

fn perform(act: &Act, cluster: &mut Cluster, manifests: &[Value]) -> Result<(), String> {
    let objects = objects(cluster);
    let server = &cluster.server;
    let done = match act.decide(&objects, manifests)? {
        Deed::Controller(true) => {
            cluster.start_controller();
            return Ok(());
        }
        Deed::Controller(false) => {
            cluster.kill_controller();
            return Ok(());
        }
        Deed::Hook(name, words) => {
            cluster.hooks.set(&name, words);
            return Ok(());
        }
        Deed::Expect(expect) => return expect.check(&objects),
        Deed::Alert { rollout, body } => {
            let key = actions::resource("rollout")?;
            let call = Call::new(ACCOUNT, Verb::Patch(PatchType::Merge), &key);
            server.call(call.namespace("default").name(&rollout).subresource("status").body(body))
        }
        Deed::Create { key: _, body } => server.create(USER, body),
        Deed::Delete { key, name } => server.delete(USER, &key, "default", &name),
        Deed::Patch { key, name, subresource, mut body } => {
            let mut call = Call::new(USER, Verb::Patch(PatchType::Merge), &key);
            call.namespace = Some("default".into());
            call.name = Some(name);
            call.subresource = subresource.map(str::to_owned);
            call.body = body.clone();
            match server.call(call) {
                // What is applied whole and does not exist is made.
                Err(status) if status.code == 404 && body.get("kind").is_some() => {
                    body["metadata"]["namespace"] = "default".into();
                    server.create(USER, body)
                }
                answer => answer,
            }
        }
    };
    done.map(|_| ()).map_err(|status| status.to_string())
}

fn at(span: SignedDuration) -> Timestamp {
    START.saturating_add(span).unwrap_or(Timestamp::MAX)
}
