//! A Kubernetes Job whose end is the measurement. No condition is asked.
//!
//! The Job's name follows from the run and the number of the measurement: after a crash the same
//! Job is found again, never a second one made. It belongs to the run and goes with it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::ProviderError;
use super::sigv4::hex;
use crate::analysis::{JobAsk, Outcome, Query};
use crate::api::AnalysisPhase;

/// How long the API server may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest time between two looks at a Job.
const LONGEST: SignedDuration = SignedDuration::from_secs(10);

/// Seconds after which a finished Job goes, where its spec says nothing.
const KEPT: i64 = 86_400;

/// A finished Job stays at least so many seconds, so that its end is seen by us.
const SEEN: i64 = 60;

/// Jobs of one metric that are kept, as Argo's `measurementRetention` for Jobs.
const RETAINED: i32 = 10;

/// Why a pod will never start.
const HOPELESS: [&str; 4] =
    ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError"];

/// Makes the Job, or looks how it is.
pub(super) async fn measure(
    client: &kube::Client,
    ask: &JobAsk,
    query: &Query,
    now: Timestamp,
) -> Result<Outcome, ProviderError> {
    let name = name(query);
    let api: Api<Job> = Api::namespaced(client.clone(), &query.namespace);
    let found = answer(api.get_opt(&name), query).await?;
    let job = match found {
        Some(job) => job,
        None if query.asker.notes.as_ref().is_some_and(|notes| !notes.is_empty()) => {
            let message = format!("the Job {name} is gone: it is not run again");
            let (phase, message) = (AnalysisPhase::Inconclusive, Some(message));
            let ended = Outcome::Ended { phase, message, notes: BTreeMap::new() };
            return Ok(with_notes(ended, &name, query));
        }
        None => {
            forget(&api, query).await;
            let job = manifest(ask, query, &name)?;
            let manager = Some(crate::api::FIELD_MANAGER.to_owned());
            let created = PostParams { field_manager: manager, ..PostParams::default() };
            match answer(api.create(&created, &job), query).await {
                Ok(job) => job,
                Err(ProviderError::Refused(why)) if why.contains("AlreadyExists") => {
                    return Ok(running(&name, query, None, now));
                }
                Err(error) => return Err(error),
            }
        }
    };
    let value = serde_json::to_value(&job).unwrap_or_default();
    if !is_ours(&value, query) {
        return Err(ProviderError::Misconfigured(format!(
            "Job {name:?} exists and does not belong to this run: delete it"
        )));
    }
    if let Some(ended) = ended(&value) {
        return Ok(with_notes(ended, &name, query));
    }
    let selector = format!("batch.kubernetes.io/job-name={name}");
    let pods: Api<Pod> = Api::namespaced(client.clone(), &query.namespace);
    let pods = answer(pods.list(&ListParams::default().labels(&selector)), query).await;
    let pods = pods.map(|list| serde_json::to_value(list.items).unwrap_or_default());
    if let Some(why) = pods.ok().as_ref().and_then(hopeless) {
        let (phase, message) = (AnalysisPhase::Inconclusive, Some(why));
        return Ok(with_notes(
            Outcome::Ended { phase, message, notes: BTreeMap::new() },
            &name,
            query,
        ));
    }
    let created = value.pointer("/metadata/creationTimestamp").and_then(Value::as_str);
    Ok(running(&name, query, created.and_then(|at| at.parse().ok()), now))
}

/// Deletes the Job of a measurement that is not wanted any more.
pub(super) async fn cancel(client: &kube::Client, query: &Query) -> Result<(), ProviderError> {
    let api: Api<Job> = Api::namespaced(client.clone(), &query.namespace);
    let name = name(query);
    match answer(api.delete(&name, &DeleteParams::background()), query).await {
        Ok(_) => Ok(()),
        Err(ProviderError::Refused(why)) if why.contains("NotFound") => Ok(()),
        Err(error) => Err(error),
    }
}

/// Deletes the Job that is one too many. Where it fails, the next one's time to live is left.
async fn forget(api: &Api<Job>, query: &Query) {
    let mut old = query.clone();
    old.asker.number -= RETAINED;
    if old.asker.number >= 0 {
        let _ = answer(api.delete(&name(&old), &DeleteParams::background()), query).await;
    }
}

async fn answer<T>(
    request: impl Future<Output = kube::Result<T>>,
    query: &Query,
) -> Result<T, ProviderError> {
    let of = |what: &str| format!("provider.job: Jobs in namespace {:?}: {what}", query.namespace);
    let answered = tokio::time::timeout(TIMEOUT, request).await;
    match answered.map_err(|_| ProviderError::Timeout(of("the API server did not answer")))? {
        Ok(value) => Ok(value),
        Err(kube::Error::Api(status)) => {
            let said = format!("{}: {}", status.reason, status.message);
            Err(match status.code {
                401 | 403 => ProviderError::Misconfigured(of(&format!(
                    "{said}: bind the ClusterRole sluice-jobs to the controller's service account \
                     there, by a RoleBinding"
                ))),
                429 => ProviderError::RateLimited { message: of(&said), retry_after: None },
                500.. => ProviderError::Server(of(&said)),
                _ => ProviderError::Refused(of(&said)),
            })
        }
        Err(error) => Err(ProviderError::Unreachable(of(&error.to_string()))),
    }
}

/// The metric's name as far as it fits, and what makes it the only one.
fn name(query: &Query) -> String {
    let digest = Sha256::digest(format!("{}\n{}", query.asker.uid, query.metric));
    let plain: String = query
        .metric
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(30)
        .collect();
    let plain = plain.trim_matches('-');
    let hash = hex(&digest);
    let hash = hash.get(..10).unwrap_or_default();
    format!("m{}{plain}-{hash}-{}", if plain.is_empty() { "" } else { "-" }, query.asker.number)
}

/// The Job that is made.
fn manifest(ask: &JobAsk, query: &Query, name: &str) -> Result<Job, ProviderError> {
    let JobAsk { labels, annotations } = ask;
    let wrong = |why: String| ProviderError::Misconfigured(format!("provider.job: {why}"));
    let mut spec: Value = serde_json::from_str(&query.text).map_err(|e| wrong(e.to_string()))?;
    if let Some(fields) = spec.as_object_mut() {
        let kept = fields.entry("ttlSecondsAfterFinished").or_insert(json!(KEPT));
        if kept.as_i64().is_some_and(|seconds| seconds < SEEN) {
            *kept = json!(SEEN);
        }
    }
    if let Some(pod) = spec.pointer_mut("/template/spec").and_then(Value::as_object_mut) {
        pod.entry("restartPolicy").or_insert(json!("Never"));
    }
    let owner = json!({"apiVersion": "sluice.dev/v1beta1", "kind": "AnalysisRun",
        "name": query.asker.run, "uid": query.asker.uid, "controller": true});
    let mut labels = labels.clone();
    labels.insert("analysisrun.sluice.dev/uid".to_owned(), query.asker.uid.clone());
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": query.namespace, "labels": labels,
            "annotations": annotations, "ownerReferences": [owner]},
        "spec": spec,
    });
    serde_json::from_value(job).map_err(|e| wrong(format!("spec: {e}")))
}

fn is_ours(job: &Value, query: &Query) -> bool {
    let owners = job.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners
        .into_iter()
        .flatten()
        .any(|owner| owner.get("uid").and_then(Value::as_str) == Some(query.asker.uid.as_str()))
}

/// How a Job ended, if it did.
fn ended(job: &Value) -> Option<Outcome> {
    let conditions = job.pointer("/status/conditions").and_then(Value::as_array)?;
    let text = |condition: &Value, name: &str| {
        condition.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let is = |kind: &str| {
        conditions.iter().find(|c| text(c, "type") == kind && text(c, "status") == "True")
    };
    let notes = BTreeMap::new();
    if is("Complete").is_some() {
        return Some(Outcome::Ended { phase: AnalysisPhase::Successful, message: None, notes });
    }
    let failed = is("Failed")?;
    let message = format!("{}: {}", text(failed, "reason"), text(failed, "message"));
    Some(Outcome::Ended { phase: AnalysisPhase::Failed, message: Some(message), notes })
}

/// Why no pod of a list can ever start.
fn hopeless(pods: &Value) -> Option<String> {
    let statuses = pods.as_array()?.iter().flat_map(|pod| {
        ["initContainerStatuses", "containerStatuses"]
            .into_iter()
            .filter_map(|list| pod.pointer(&format!("/status/{list}"))?.as_array())
            .flatten()
    });
    let mut waiting = statuses.filter_map(|status| status.pointer("/state/waiting"));
    waiting.find_map(|waiting| {
        let reason = waiting.get("reason")?.as_str().filter(|r| HOPELESS.contains(r))?;
        let message = waiting.get("message").and_then(Value::as_str).unwrap_or_default();
        Some(format!("{reason}: {message}"))
    })
}

fn notes(name: &str, query: &Query) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("job-name".to_owned(), name.to_owned()),
        ("job-namespace".to_owned(), query.namespace.clone()),
    ])
}

fn with_notes(outcome: Outcome, name: &str, query: &Query) -> Outcome {
    match outcome {
        Outcome::Ended { phase, message, .. } => {
            Outcome::Ended { phase, message, notes: notes(name, query) }
        }
        other => other,
    }
}

/// It takes longer: a Job that is old is looked at less often.
fn running(name: &str, query: &Query, created: Option<Timestamp>, now: Timestamp) -> Outcome {
    let age = created.map_or(0.0, |at| now.duration_since(at).as_secs_f64().max(0.0));
    let pause = SignedDuration::try_from_secs_f64((2.0 * age).sqrt().max(1.0)).unwrap_or(LONGEST);
    let resume_at = now.checked_add(pause.min(LONGEST)).ok();
    Outcome::Running { resume_at, notes: notes(name, query) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(job: Value) -> Option<(AnalysisPhase, Option<String>)> {
        match ended(&job)? {
            Outcome::Ended { phase, message, notes: _ } => Some((phase, message)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_job_ends_as_its_conditions_say() {
        let with = |conditions: Value| json!({"status": {"conditions": conditions}});
        assert_eq!(phase(json!({"status": {"active": 1}})), None);
        assert_eq!(phase(with(json!([{"type": "Suspended", "status": "True"}]))), None);
        assert_eq!(phase(with(json!([{"type": "Complete", "status": "False"}]))), None);
        let complete = with(json!([{"type": "SuccessCriteriaMet", "status": "True"},
            {"type": "Complete", "status": "True"}]));
        assert_eq!(phase(complete), Some((AnalysisPhase::Successful, None)));
        let failed = with(json!([{"type": "Failed", "status": "True",
            "reason": "BackoffLimitExceeded", "message": "Job has reached the limit"}]));
        let words = "BackoffLimitExceeded: Job has reached the limit".to_owned();
        assert_eq!(phase(failed), Some((AnalysisPhase::Failed, Some(words))));
    }

    #[test]
    fn an_image_that_cannot_be_had_is_no_failure_of_the_release() {
        let pod = |reason: &str| {
            json!([{"status": {"containerStatuses": [{"state": {"waiting":
                {"reason": reason, "message": "pull access denied"}}}]}}])
        };
        assert_eq!(hopeless(&pod("ContainerCreating")), None);
        assert_eq!(
            hopeless(&pod("ImagePullBackOff")).unwrap(),
            "ImagePullBackOff: pull access denied"
        );
        assert_eq!(hopeless(&json!([{"status": {}}])), None);
    }

    #[test]
    fn names_are_different_for_every_measurement_and_the_same_after_a_crash() {
        let query = |metric: &str, number| {
            let mut query = Query { metric: metric.to_owned(), ..Query::default() };
            query.asker.uid = "uid".to_owned();
            query.asker.number = number;
            query
        };
        let long = "A metric_with a name that is longer than any label may be, said twice";
        let names: std::collections::BTreeSet<String> =
            [query("a", 0), query("a", 1), query("b", 0), query(long, 0), query("***", 7)]
                .iter()
                .map(name)
                .collect();
        assert_eq!(names.len(), 5);
        for name in &names {
            assert!(name.len() <= 63, "{name}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
        }
        assert_eq!(name(&query("a", 1)), name(&query("a", 1)));
    }

    #[test]
    fn an_old_job_is_looked_at_less_often() {
        let now = Timestamp::from_second(1_000).unwrap();
        let wait = |age: i64| {
            let created = Timestamp::from_second(1_000 - age).ok();
            match running("j", &Query::default(), created, now) {
                Outcome::Running { resume_at, .. } => {
                    resume_at.unwrap().duration_since(now).as_millis()
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!([wait(0), wait(8), wait(3_600)], [1_000, 4_000, 10_000]);
    }
}
