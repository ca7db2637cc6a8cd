//! What the cluster itself is asked: Jobs and the state of objects, against an API server that
//! answers what was put into it.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::analysis::{Ask, JobAsk, ObjectAsk, Outcome};

/// An API server with objects by path, and what it was asked.
#[derive(Clone, Default)]
struct Api {
    held: Arc<Mutex<BTreeMap<String, Value>>>,
    asked: Arc<Mutex<Vec<String>>>,
    forbidden: Arc<Mutex<bool>>,
    /// What is made is answered with an error.
    silent: Arc<Mutex<bool>>,
}

impl Api {
    fn put(&self, path: &str, object: Value) {
        self.held.lock().unwrap().insert(path.to_owned(), object);
    }

    fn pool(&self) -> Pool {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let this = self.clone();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let this = this.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let (status, body) = this.answer(parts.method.as_str(), parts.uri.path(), &body);
                let body = kube::client::Body::from(body.to_string().into_bytes());
                let answer = http::Response::builder().status(status).body(body).unwrap();
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        let client = kube::Client::new(service, "default");
        Pool::in_cluster(Catalog::default(), client, "sluice-system").unwrap()
    }

    fn answer(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        self.asked.lock().unwrap().push(format!("{method} {path}"));
        let refused = |code: u16, reason: &str| {
            let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
                "status": "Failure", "reason": reason, "code": code, "message": reason});
            (code, status)
        };
        if *self.forbidden.lock().unwrap() {
            return refused(403, "Forbidden");
        }
        let mut held = self.held.lock().unwrap();
        match method {
            "POST" => {
                let object: Value = serde_json::from_slice(body).unwrap();
                let name = object["metadata"]["name"].as_str().unwrap().to_owned();
                held.insert(format!("{path}/{name}"), object.clone());
                if *self.silent.lock().unwrap() {
                    return refused(504, "Timeout");
                }
                (201, object)
            }
            "DELETE" if held.remove(path).is_some() => {
                (200, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}}))
            }
            "GET" if path.ends_with("/pods") => {
                let items = held.get(path).cloned().unwrap_or_else(|| json!([]));
                (
                    200,
                    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}),
                )
            }
            "GET" => match held.get(path) {
                Some(object) => (200, object.clone()),
                None => refused(404, "NotFound"),
            },
            _ => refused(404, "NotFound"),
        }
    }

    fn jobs(&self) -> Vec<(String, Value)> {
        let held = self.held.lock().unwrap();
        let jobs = held.iter().filter(|(path, _)| path.contains("/jobs/"));
        jobs.map(|(path, job)| (path.clone(), job.clone())).collect()
    }

    fn set_status(&self, status: Value) {
        let (path, mut job) = self.jobs().remove(0);
        job["status"] = status;
        self.put(&path, job);
    }
}

fn job() -> Query {
    let mut query = query(
        r#"{"template":{"spec":{"containers":[{"name":"t","image":"test:1"}]}},"backoffLimit":0}"#,
        Source::default(),
    );
    query.source.ask = Ask::Job(JobAsk {
        labels: BTreeMap::from([("team".to_owned(), "shop".to_owned())]),
        annotations: BTreeMap::new(),
    });
    query.asker.run = "web-1".to_owned();
    query.asker.uid = "uid-1".to_owned();
    query
}

fn phase(outcome: &Outcome) -> Option<AnalysisPhase> {
    match outcome {
        Outcome::Ended { phase, .. } => Some(*phase),
        Outcome::Running { .. } => None,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_job_is_made_once_belongs_to_the_run_and_ends_the_measurement() {
    let api = Api::default();
    let pool = api.pool();
    let first = pool.measure(&job()).await;
    assert_eq!(phase(&first), None);
    let again = pool.measure(&job()).await;
    let (Outcome::Running { notes: a, resume_at }, Outcome::Running { notes: b, .. }) =
        (first, again)
    else {
        panic!("not running")
    };
    assert_eq!(a, b);
    assert!(resume_at.is_some());
    let jobs = api.jobs();
    assert_eq!(jobs.len(), 1);
    let (path, made) = &jobs[0];
    assert_eq!(*path, format!("/apis/batch/v1/namespaces/shop/jobs/{}", a["job-name"]));
    let owner = &made["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["uid"]), (&json!("AnalysisRun"), &json!("uid-1")));
    assert_eq!(made["metadata"]["labels"]["team"], "shop");
    assert_eq!(made["spec"]["template"]["spec"]["restartPolicy"], "Never");
    assert_eq!(made["spec"]["backoffLimit"], 0);

    api.set_status(json!({"conditions": [{"type": "Complete", "status": "True"}]}));
    assert_eq!(phase(&pool.measure(&job()).await), Some(AnalysisPhase::Successful));
    let mut second = job();
    second.asker.number = 1;
    assert_eq!(phase(&pool.measure(&second).await), None);
    assert_eq!(api.jobs().len(), 2, "the next measurement is another Job");
}

#[tokio::test]
async fn a_job_whose_begin_was_not_answered_is_found_again_or_made() {
    let api = Api::default();
    let pool = api.pool();
    *api.silent.lock().unwrap() = true;
    let Outcome::Error(error) = pool.measure(&job()).await else { panic!("it was answered") };
    assert_eq!(error.kind, crate::analysis::ErrorKind::Server);
    let mut again = job();
    again.asker.notes = Some(BTreeMap::new());
    assert_eq!(phase(&pool.measure(&again).await), None);
    assert_eq!(api.jobs().len(), 1);

    let api = Api::default();
    assert_eq!(phase(&api.pool().measure(&again).await), None, "it had not been made");
    assert_eq!(api.jobs().len(), 1);
}

#[tokio::test]
async fn a_job_that_fails_or_never_starts_says_why() {
    let api = Api::default();
    let pool = api.pool();
    pool.measure(&job()).await;
    api.put(
        "/api/v1/namespaces/shop/pods",
        json!([{"metadata": {"name": "p"}, "status": {"containerStatuses": [{"name": "t",
            "image": "test:1", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ErrImagePull", "message": "denied"}}}]}}]),
    );
    let hopeless = pool.measure(&job()).await;
    assert_eq!(phase(&hopeless), Some(AnalysisPhase::Inconclusive));
    assert!(format!("{hopeless:?}").contains("ErrImagePull: denied"), "{hopeless:?}");
    let failed = json!({"conditions": [{"type": "Failed", "status": "True",
        "reason": "BackoffLimitExceeded", "message": "exit 1"}]});
    api.set_status(failed);
    let failed = pool.measure(&job()).await;
    assert_eq!(phase(&failed), Some(AnalysisPhase::Failed));
    assert!(format!("{failed:?}").contains("BackoffLimitExceeded: exit 1"), "{failed:?}");
}

#[tokio::test]
async fn a_job_that_is_not_wanted_any_more_is_deleted() {
    let api = Api::default();
    let pool = api.pool();
    pool.measure(&job()).await;
    for _ in 0..2 {
        let ended = run_cancel(&pool, vec![job()]).await.remove(0).1;
        assert_eq!(phase(&ended), Some(AnalysisPhase::Inconclusive));
        assert!(format!("{ended:?}").contains("\"Metric Terminated\""), "{ended:?}");
        assert!(api.jobs().is_empty());
    }
}

#[tokio::test]
async fn a_job_of_somebody_else_and_a_missing_permission_are_errors() {
    let api = Api::default();
    let pool = api.pool();
    pool.measure(&job()).await;
    let (path, mut stranger) = api.jobs().remove(0);
    stranger["metadata"]["ownerReferences"] = json!([]);
    api.put(&path, stranger);
    let error = format!("{:?}", pool.measure(&job()).await);
    assert!(error.contains("does not belong to this run"), "{error}");
    *api.forbidden.lock().unwrap() = true;
    let error = format!("{:?}", pool.measure(&job()).await);
    assert!(error.contains("bind the ClusterRole sluice-jobs"), "{error}");
    let outside = format!("{:?}", super::pool(Catalog::default()).measure(&job()).await);
    assert!(outside.contains("there is no cluster here"), "{outside}");
}

fn object(api_version: &str, kind: &str, name: &str) -> Query {
    let mut query = query("", Source::default());
    query.source.ask = Ask::Object(ObjectAsk {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        condition: Some("Available".to_owned()),
        status: "True".to_owned(),
        ..ObjectAsk::default()
    });
    query
}

#[tokio::test]
async fn the_condition_of_an_object_in_the_runs_namespace_is_read() {
    let api = Api::default();
    api.put(
        "/apis/apps/v1/namespaces/shop/deployments/web",
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "status": {"conditions": [{"type": "Available", "status": "True"}]}}),
    );
    let pool = api.pool();
    let found = pool.measure(&object("apps/v1", "Deployment", "web")).await;
    assert_eq!(phase(&found), Some(AnalysisPhase::Successful));
    for (asked, words) in [
        (object("apps/v1", "Deployment", "nope"), "create it, or correct the name"),
        (object("v1", "Secret", "creds"), "a Secret is not read for a metric"),
        (object("v1", "Pod", "../secrets/creds"), "is no object's name"),
        (object("v1/namespaces/shop", "Secret", "creds"), "is no object's name"),
    ] {
        let error = format!("{:?}", pool.measure(&asked).await);
        assert!(error.contains(words), "{error}");
    }
    assert!(!api.asked.lock().unwrap().iter().any(|path| path.contains("secret")));
    *api.forbidden.lock().unwrap() = true;
    let error = format!("{:?}", pool.measure(&object("apps/v1", "Deployment", "web")).await);
    assert!(error.contains("`get` on deployments"), "{error}");
}
