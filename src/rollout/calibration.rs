//! What is to be learnt of a Rollout's past, and how people are told.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::snapshot::Snapshot;
use super::{Draft, status};
use crate::analysis::calibration::{Asked, Policy, asked, risk};
use crate::analysis::{NamedTemplate, ReleaseContext, build_run, flatten};
use crate::api::analysis_run::RunRelease;
use crate::spec::{self, AnalysisStanza, CalibrationPlan};

/// The condition: True when there is a boundary to be had.
const CALIBRATED: &str = "Calibrated";

/// What a Rollout's templates ask to be learnt.
#[derive(Debug, Clone)]
pub struct Calibrating {
    /// The comparisons.
    pub asked: Vec<Asked>,
    /// From what.
    pub policy: Policy,
    /// How often.
    pub plan: CalibrationPlan,
    /// The least risk of the templates.
    pub risk: f64,
}

/// What is known of a Rollout's calibration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CalibrationView {
    /// It is being learnt for the first time.
    Learning(String),
    /// There is a boundary to be had.
    Learnt(String),
    /// There is none, and why.
    Unusable(String),
}

/// What is to be learnt; `None` when no template asks for it.
#[must_use]
pub fn calibrating(s: &Snapshot) -> Option<Result<Calibrating, String>> {
    if s.templates.values().all(|template| template.calibration.is_none()) {
        return None;
    }
    let plan = spec::Plan::parse(&s.rollout.spec).ok()?;
    let steps: Vec<(i32, &AnalysisStanza)> = plan
        .steps
        .iter()
        .filter_map(|step| Some((step.replicas.of(replicas(s)), step.analysis.as_ref()?)))
        .collect();
    let every = plan.steps.iter().map(|step| step.replicas.of(replicas(s)));
    let background = plan.background.iter().flat_map(|b| every.clone().map(move |pods| (pods, b)));
    let mut sizes: Vec<usize> = Vec::new();
    let mut found: BTreeMap<String, Asked> = BTreeMap::new();
    let mut first: Option<CalibrationPlan> = None;
    let mut risk: f64 = 1.0;
    for (pods, stanza) in steps.into_iter().chain(background) {
        let (written, more) = match of_stanza(s, stanza) {
            None => continue,
            Some(Ok(found)) => {
                risk = risk.min(found.risk);
                (found.plan, found.asked)
            }
            Some(Err(why)) => return Some(Err(why)),
        };
        first.get_or_insert(written);
        found.extend(more.into_iter().map(|asked| (asked.key.clone(), asked)));
        // With all pods of the new version there is nothing to compare with.
        sizes.extend(usize::try_from(pods).ok().filter(|_| pods > 0 && pods < replicas(s)));
    }
    let plan = first?;
    if found.is_empty() {
        return None;
    }
    if sizes.is_empty() {
        return Some(Err("no step leaves stable pods to compare with".to_owned()));
    }
    let policy = policy(s, &plan, &sizes);
    Some(Ok(Calibrating { asked: found.into_values().collect(), policy, plan, risk }))
}

fn replicas(s: &Snapshot) -> i32 {
    s.workload.as_ref().map_or(0, |view| view.replicas)
}

/// What a stanza's templates ask for.
struct Found {
    plan: CalibrationPlan,
    risk: f64,
    asked: Vec<Asked>,
}

/// The calibration of a stanza's templates, their risk, and the comparisons that it is for.
fn of_stanza(s: &Snapshot, stanza: &AnalysisStanza) -> Option<Result<Found, String>> {
    let known = flatten(&stanza.templates, |reference| {
        s.templates.get(&(reference.cluster, reference.name.clone()))
    });
    // A template that is missing is said where it is used.
    let templates: Vec<NamedTemplate<'_>> = known.ok()?;
    let named = templates.iter().find_map(|t| Some((&t.name, t.spec.calibration.as_ref()?)));
    let (name, raw) = named?;
    let written = CalibrationPlan::parse(raw, "spec.calibration").map_err(|errors| {
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        format!("template {name}: {}", texts.join("; "))
    });
    let rollout = json!({"metadata": s.rollout.metadata, "spec": s.rollout.spec});
    // The past has no two versions; queries that name a hash would have none.
    let release = RunRelease {
        stable: Some("stable".to_owned()),
        canary: Some("canary".to_owned()),
        ..RunRelease::default()
    };
    let context = ReleaseContext {
        stable: "stable",
        canary: "canary",
        rollout: &rollout,
        release: Some(&release),
    };
    let workload = &s.rollout.spec.workload_ref.name;
    let run = build_run("calibration", "", None, &templates, stanza, &context);
    let run = run.map_err(|error| error.to_string());
    Some(written.and_then(|plan| {
        let run = run?;
        Ok(Found { plan, risk: risk(&run.spec), asked: asked(&run.spec, workload)? })
    }))
}

/// The steps share the window: its canary grows as theirs does.
fn policy(s: &Snapshot, plan: &CalibrationPlan, sizes: &[usize]) -> Policy {
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable();
    sizes.dedup();
    let count = i64::try_from(sizes.len()).unwrap_or(1).max(1);
    let share = plan.window.as_secs() / count;
    let begins = (0..).map(|i: i64| SignedDuration::from_secs(i * share));
    let uid = s.rollout.metadata.uid.as_deref().unwrap_or_default();
    let seed = Sha256::digest(uid.as_bytes());
    let seed = seed.iter().take(8).fold(0, |seed: u64, byte| seed << 8 | u64::from(*byte));
    Policy {
        history: plan.history,
        windows: plan.windows,
        length: plan.window,
        canary: begins.zip(sizes).collect(),
        exclude: plan.exclude.clone(),
        seed,
    }
}

impl Calibrating {
    /// Changes with everything that what is learnt depends on.
    #[must_use]
    pub fn identity(&self) -> String {
        let keys: Vec<&str> = self.asked.iter().map(|asked| asked.key.as_str()).collect();
        // The canary's size follows the workload's, which may change at any time.
        let Policy { history, windows, length, canary: _, exclude, seed: _ } = &self.policy;
        let text = format!("{keys:?} {history} {windows} {length} {exclude:?}");
        let digest = Sha256::digest(text.as_bytes());
        digest.iter().take(8).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }

    /// When it is to be learnt again.
    #[must_use]
    pub fn next(&self, last: Timestamp) -> Option<Timestamp> {
        self.plan.next(last)
    }
}

/// Says what is known; before anything is known, what was said stays.
pub(crate) fn describe(d: &mut Draft<'_>) {
    let known = d.s.calibration.clone();
    if known.is_none() && status::find(d, CALIBRATED).is_none() {
        return;
    }
    if calibrating(d.s).is_none() {
        return status::clear(d, CALIBRATED);
    }
    let (on, reason, says) = match known {
        Some(CalibrationView::Learning(says)) => (false, "Learning", says),
        Some(CalibrationView::Learnt(says)) => (true, "Learnt", says),
        Some(CalibrationView::Unusable(says)) => (false, "Unusable", says),
        None => return,
    };
    let news = status::set(d, CALIBRATED, on, reason, &says);
    match reason {
        "Learnt" if news => d.event("Calibrated", says),
        "Unusable" if news => d.warn("CalibrationUnusable", says),
        _ => {}
    }
}
