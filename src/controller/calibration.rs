//! The past of a Rollout's workload is read, one window at a time, and what was learnt is kept in a
//! ConfigMap that the Rollout owns.
//!
//! Nothing waits for it: a release that comes before is judged without. Progress is in memory only; a
//! process that takes over begins the windows anew.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::engine::{Engine, Outcome};
use crate::analysis::calibration::{Learner, Learnt, Question};
use crate::analysis::{Ask, Line, Query, Range, RangeTime, Sample, Source};
use crate::apply::{ApplyError, Class, Http};
use crate::observe::Key;
use crate::rollout::{Calibrating, CalibrationView, Snapshot, calibrating};
use crate::stats::conformal::{reachable, windows_needed};

/// Between two windows of one Rollout: what a release asks comes first.
const PAUSE: SignedDuration = SignedDuration::from_millis(500);

/// Rollouts that are learnt at the same time, or whose past is read, and how soon the next one asks for a
/// place: the servers belong to the releases.
pub(super) const LEARNERS: usize = 4;
const NO_PLACE: SignedDuration = SignedDuration::from_secs(15);

/// The first and the longest pause after a window without an answer, and after how many in a row it is
/// left for the next time.
const RETRY: (i64, i64) = (30, 600);
const FAILURES: u32 = 6;

/// The keys of the ConfigMap.
const LEARNT: &str = "calibration.json";
const REFUSED: &str = "refused.json";

/// Where each Rollout's calibration is. What may be forgotten at any time.
pub(super) type Seats = Mutex<BTreeMap<Key, Seat>>;

#[derive(Default)]
pub(super) struct Seat {
    /// What the templates asked for when it was last looked at.
    identity: String,
    loaded: bool,
    kept: Kept,
    learner: Option<Learner>,
    failures: u32,
}

/// What the ConfigMap holds.
#[derive(Default)]
struct Kept {
    learnt: Option<Learnt>,
    refused: Option<Refused>,
}

/// The last try came to nothing.
#[derive(Clone, Serialize, Deserialize)]
struct Refused {
    at: Timestamp,
    why: String,
}

impl Engine {
    /// The key of a Rollout's calibration when it has to be looked at: when it is not known yet, or the
    /// templates ask for something else.
    pub(super) fn uncalibrated(
        &self,
        snapshot: &Snapshot,
        namespace: &str,
        name: &str,
    ) -> Option<Key> {
        let identity = identity(&calibrating(snapshot)?);
        let key = Key::Calibration { namespace: namespace.to_owned(), name: name.to_owned() };
        let seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seats.get(&key).is_some_and(|seat| seat.identity == identity);
        (!known).then_some(key)
    }

    /// Looks at a Rollout's calibration: loads it, reads one window, or waits.
    pub(super) async fn calibrate(&self, key: &Key, namespace: &str, name: &str) -> Outcome {
        let now = self.clock.now();
        let mut outcome = Outcome::default();
        let snapshot = self.world().snapshot(namespace, name, &self.account);
        let wanted = snapshot.as_ref().and_then(calibrating);
        let (Some(snapshot), Some(wanted)) = (snapshot, wanted) else {
            self.seats.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            return outcome;
        };
        let taken = self.seats.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        let mut seat = taken.unwrap_or_default();
        let news = std::mem::replace(&mut seat.identity, identity(&wanted));
        if news != seat.identity {
            seat.learner = None;
        }
        let mut tell = |view: CalibrationView| {
            let id = (namespace.to_owned(), name.to_owned());
            outcome.touched.extend(self.world().calibrated(id, view));
        };
        match wanted {
            Err(why) => tell(CalibrationView::Unusable(why)),
            Ok(wanted) => {
                let step = self.learn(&snapshot, &wanted, &mut seat, namespace, name, now).await;
                match step {
                    Ok((view, wake)) => {
                        view.into_iter().for_each(tell);
                        outcome.wake = wake;
                    }
                    Err(error) => {
                        let memory = self.memory(key);
                        self.failed(key, memory, error, now, &mut outcome);
                    }
                }
            }
        }
        self.seats.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), seat);
        outcome
    }

    /// One step; what is to be said, and when to go on.
    async fn learn(
        &self,
        snapshot: &Snapshot,
        wanted: &Calibrating,
        seat: &mut Seat,
        namespace: &str,
        name: &str,
        now: Timestamp,
    ) -> Result<(Option<CalibrationView>, Option<Timestamp>), ApplyError> {
        if !seat.loaded {
            seat.kept = self.kept(namespace, name).await?;
            seat.loaded = true;
        }
        let after = |span: SignedDuration| now.saturating_add(span).ok();
        let due = seat.kept.due(wanted, now);
        if seat.learner.is_none() {
            if due.is_none_or(|due| due > now) {
                return Ok((seat.kept.view(wanted), due));
            }
            if self.learners() >= LEARNERS {
                return Ok((seat.kept.view(wanted), after(NO_PLACE)));
            }
            let Calibrating { asked, policy, .. } = wanted.clone();
            seat.learner = Some(Learner::new(asked, policy, seat.kept.learnt.clone(), now));
            seat.failures = 0;
        }
        let Some(learner) = &mut seat.learner else { return Ok((None, None)) };
        let queries: Vec<Query> =
            learner.due().iter().map(|question| query(question, namespace)).collect();
        if !queries.is_empty() {
            match self.ask(&queries).await {
                Ok(answers) => {
                    seat.failures = 0;
                    learner.take(answers);
                    return Ok((seat.kept.view(wanted), after(PAUSE)));
                }
                Err(_) if seat.failures + 1 < FAILURES => {
                    seat.failures += 1;
                    let (first, longest) = RETRY;
                    let seconds = (first << (seat.failures - 1)).min(longest);
                    return Ok((seat.kept.view(wanted), after(SignedDuration::from_secs(seconds))));
                }
                Err(why) => {
                    seat.learner = None;
                    seat.kept.refused = Some(Refused { at: now, why });
                }
            }
        }
        if let Some(learner) = seat.learner.take() {
            match learner.finish(now) {
                Ok(learnt) => seat.kept = Kept { learnt: Some(learnt), refused: None },
                Err(why) => seat.kept.refused = Some(Refused { at: now, why }),
            }
        }
        // Not written: it is learnt again by whoever comes next, and counts until then.
        self.store(snapshot, &seat.kept, namespace, name).await?;
        Ok((seat.kept.view(wanted), seat.kept.due(wanted, now)))
    }

    fn learners(&self) -> usize {
        let seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.values().filter(|seat| seat.learner.is_some()).count()
    }

    /// The answers to the queries of a window, one after the other.
    async fn ask(&self, queries: &[Query]) -> Result<Vec<Vec<Line>>, String> {
        self.teach(queries.iter());
        let mut answers = Vec::with_capacity(queries.len());
        for query in queries {
            let answer = self.source.query(query).await.map_err(|error| error.to_string())?;
            answers.push(match answer.sample {
                Sample::Lines(lines) => lines,
                Sample::Empty => Vec::new(),
                other => {
                    return Err(format!(
                        "{}: the answer is no range of series: {other}",
                        query.text
                    ));
                }
            });
        }
        Ok(answers)
    }

    async fn kept(&self, namespace: &str, rollout: &str) -> Result<Kept, ApplyError> {
        match Http::get(path(namespace, rollout)).send(self.client()).await {
            Ok(object) => Ok(Kept::read(object)),
            Err(error) if error.class() == Class::Missing => Ok(Kept::default()),
            Err(error) => Err(error),
        }
    }

    async fn store(
        &self,
        snapshot: &Snapshot,
        kept: &Kept,
        namespace: &str,
        rollout: &str,
    ) -> Result<(), ApplyError> {
        let at = path(namespace, rollout);
        let encoding = |source| ApplyError::Encoding { what: format!("PATCH {at}"), source };
        let (mut data, mut binary) = (BTreeMap::new(), BTreeMap::new());
        if let Some((text, paths)) = kept.learnt.as_ref().and_then(|learnt| learnt.write().ok()) {
            data.insert(LEARNT, text);
            binary = paths.into_iter().map(|(key, bytes)| (key, ByteString(bytes))).collect();
        }
        if let Some(refused) = &kept.refused {
            data.insert(REFUSED, serde_json::to_string(refused).map_err(encoding)?);
        }
        let owner = &snapshot.rollout.metadata;
        let body = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name_of(rollout),
                "namespace": namespace,
                "labels": {"app.kubernetes.io/managed-by": "sluice"},
                "ownerReferences": [{
                    "apiVersion": "sluice.dev/v1beta1",
                    "kind": "Rollout",
                    "name": rollout,
                    "uid": owner.uid,
                }],
            },
            "data": data,
            "binaryData": binary,
        });
        Http::server_side_apply(&at, body).send(self.client()).await.map(|_| ())
    }

    /// What was learnt for a Rollout, or why there is nothing.
    pub(super) async fn learnt(
        &self,
        namespace: &str,
        rollout: &str,
    ) -> Result<Result<Learnt, String>, ApplyError> {
        let Kept { learnt, refused } = self.kept(namespace, rollout).await?;
        Ok(learnt.ok_or_else(|| match refused {
            Some(Refused { at, why }) => format!("nothing was learnt at {at:.0}: {why}"),
            None => "nothing is learnt yet".to_owned(),
        }))
    }
}

fn identity(wanted: &Result<Calibrating, String>) -> String {
    match wanted {
        Ok(wanted) => wanted.identity(),
        Err(why) => why.clone(),
    }
}

fn name_of(rollout: &str) -> String {
    format!("{rollout}-calibration")
}

fn path(namespace: &str, rollout: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps/{}", name_of(rollout))
}

fn query(question: &Question<'_>, namespace: &str) -> Query {
    let Question { source, text, from, until, step } = question;
    let range =
        Range { start: RangeTime::fixed(*from), end: RangeTime::fixed(*until), step: *step };
    Query {
        metric: "calibration".to_owned(),
        namespace: namespace.to_owned(),
        source: Source { ask: Ask::Prometheus { range: Some(range) }, ..(*source).clone() },
        text: (*text).to_owned(),
        labelled: true,
        ..Query::default()
    }
}

impl Kept {
    /// What cannot be read is learnt anew.
    fn read(object: serde_json::Value) -> Self {
        let Ok(ConfigMap { data, binary_data, .. }) = serde_json::from_value(object) else {
            return Self::default();
        };
        let (data, binary) = (data.unwrap_or_default(), binary_data.unwrap_or_default());
        let paths = binary.into_iter().map(|(key, bytes)| (key, bytes.0)).collect();
        let learnt = data.get(LEARNT).map(|text| Learnt::read(text, &paths));
        let refused = data.get(REFUSED).and_then(|text| serde_json::from_str(text).ok());
        match learnt {
            Some(Err(error)) => {
                tracing::warn!(%error, "what was learnt is not used");
                Self { learnt: None, refused }
            }
            found => Self { learnt: found.and_then(Result::ok), refused },
        }
    }

    /// When it is to be learnt: at once when there is nothing or something else, and then by the
    /// schedule.
    fn due(&self, wanted: &Calibrating, now: Timestamp) -> Option<Timestamp> {
        let fits = |learnt: &&Learnt| {
            wanted.asked.iter().all(|asked| learnt.metrics.contains_key(&asked.key))
                && learnt.length_seconds == wanted.policy.length.as_secs()
        };
        let learnt = self.learnt.as_ref().filter(fits).map(|learnt| learnt.learnt_at);
        let refused = self.refused.as_ref().map(|refused| refused.at);
        match learnt.max(refused) {
            Some(last) => wanted.next(last),
            None => Some(now),
        }
    }

    fn view(&self, wanted: &Calibrating) -> Option<CalibrationView> {
        let Some(learnt) = &self.learnt else {
            return Some(match &self.refused {
                Some(refused) => CalibrationView::Unusable(refused.why.clone()),
                None => CalibrationView::Learning("the history is being read".to_owned()),
            });
        };
        let says = learnt.to_string();
        let windows = learnt.windows.len();
        if windows >= windows_needed(wanted.risk) {
            return Some(CalibrationView::Learnt(says));
        }
        let (least, risk) = (100.0 * reachable(windows), 100.0 * wanted.risk);
        let short = format!("{says}; they promise {least:.1}% at best, {risk}% is asked");
        Some(CalibrationView::Unusable(short))
    }
}
