//! Writes that are refused: what the Rollout says of it, and how often.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sluice::api::{GATE_NAME, GateEntry, RolloutStatus};
use sluice::apply::{self, Class, Operator, Target};
use sluice::clock::Clock;
use sluice::observe::Version;
use sluice::rollout::{Action, Plan, Urgency};
use sluice::sim::apiserver::{ApiStatus, Fault, RequestInfo, ResourceKey};
use sluice::sim::cluster::{ACCOUNT, Cluster, USER};

use crate::world::{NAMESPACE, Shape, WEB, gates, get, rollouts, seconds, set_image};

fn shape() -> Shape {
    Shape {
        replicas: 4,
        max_surge: json!(1),
        max_unavailable: json!(1),
        routed: false,
        steps: json!([{"replicas": "50%", "pause": {}}, {"replicas": "100%"}]),
        ready_after: seconds(0),
    }
}

/// A workload at rest with its Rollout, and then writes of the controller's that are refused.
async fn stage(which: impl Fn(&RequestInfo) -> bool + Send + 'static) -> (Cluster, Book) {
    let shape = shape();
    let mut cluster = shape.cluster(1, "web:v1").await;
    let mut rollout = shape.rollout();
    rollout["spec"]["progressDeadlineSeconds"] = json!(6000);
    cluster.server.create(USER, rollout).unwrap();
    cluster.run_for(seconds(10)).await;
    let book = Book::default();
    let (rule, lines) = (cluster.server.faults(), book.clone());
    rule.set(Box::new(move |request| {
        if request.user != ACCOUNT || !request.writes() {
            return Fault::Pass;
        }
        let part = request.subresource.as_deref().unwrap_or_default();
        lines.0.lock().unwrap().push(format!("{} {part}", request.resource));
        if which(request) { Fault::Refuse(forbidden()) } else { Fault::Pass }
    }));
    (cluster, book)
}

fn forbidden() -> Box<ApiStatus> {
    ApiStatus::forbidden("admission webhook \"policy.test\" denied the request: not today")
}

/// What the controller has written.
#[derive(Clone, Default)]
struct Book(Arc<Mutex<Vec<String>>>);

impl Book {
    fn count(&self, of: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|line| line.trim_end() == of).count()
    }
}

fn status(cluster: &Cluster) -> Value {
    get(&cluster.server, &rollouts(), WEB)["status"].clone()
}

fn condition(cluster: &Cluster) -> Option<Value> {
    let status = status(cluster);
    let mut all = status["conditions"].as_array().into_iter().flatten();
    all.find(|c| c["type"] == "Refused").cloned()
}

fn told(cluster: &Cluster) -> usize {
    let events = ResourceKey::new("events.k8s.io", "v1", "events");
    let all = cluster.server.list(&events, Some(NAMESPACE));
    all.iter().filter(|event| event["reason"] == "Refused").count()
}

#[tokio::test]
async fn a_write_that_is_forbidden_is_named_on_the_rollout_until_it_is_made() {
    for resource in ["gates", "deployments"] {
        let (mut cluster, book) = stage(move |request| request.resource == resource).await;
        set_image(&cluster.server, "web:v2");
        cluster.run_for(seconds(120)).await;
        let said = condition(&cluster).unwrap_or_else(|| panic!("{}", status(&cluster)));
        assert_eq!(said["reason"], "WriteForbidden", "{said}");
        let text = said["message"].as_str().unwrap();
        assert!(text.contains(resource) && text.contains("not today"), "{text}");
        assert!(text.contains("RBAC"), "it says what to do: {text}");
        assert_eq!(status(&cluster)["waitingFor"], said["message"]);
        assert_eq!(told(&cluster), 1, "{resource}");
        let written = book.count("rollouts status");
        assert!(written <= 6, "{resource}: {written} writes of the status");
        cluster.run_for(seconds(600)).await;
        assert_eq!(book.count("rollouts status"), written, "{resource}: and no more of them");

        cluster.server.faults().clear();
        cluster.run_for(seconds(310)).await;
        assert_eq!(condition(&cluster), None, "{resource}");
        assert_eq!(status(&cluster)["release"]["state"], "StepPaused", "{}", status(&cluster));
    }
}

#[tokio::test]
async fn a_webhook_that_forbids_the_proof_stops_no_release() {
    let shape = shape();
    let mut cluster = shape.cluster(1, "web:v1").await;
    // A dry run is the only patch of a Deployment while nothing is released.
    cluster.server.faults().set(Box::new(|request| {
        let proof = request.user == ACCOUNT && request.resource == "deployments";
        if proof && request.verb == "patch" { Fault::Refuse(forbidden()) } else { Fault::Pass }
    }));
    cluster.server.create(USER, shape.rollout()).unwrap();
    cluster.run_for(seconds(30)).await;
    let said = status(&cluster);
    assert_eq!(said["phase"], "Healthy", "{said}");
    assert_eq!(said["gate"]["kind"], "Repair", "{said}");
    assert!(said["gate"]["message"].as_str().unwrap().contains("not today"), "{said}");
    assert_eq!(condition(&cluster), None, "a dry run is no write");
    cluster.server.faults().clear();
    cluster.run_for(seconds(310)).await;
    assert_eq!(status(&cluster)["gate"]["kind"], "Policy", "it is asked again");
}

/// A leader that was cut off in the middle of a pass wakes up, and would put an old release's entry back.
#[tokio::test]
async fn a_write_of_the_gate_that_comes_late_is_refused() {
    let (mut cluster, _) = stage(|_| false).await;
    let gate = |cluster: &Cluster| get(&cluster.server, &gates(), GATE_NAME);
    let planned_on = Version::of(&gate(&cluster));
    set_image(&cluster.server, "web:v2");
    cluster.run_for(seconds(30)).await;
    let held = gate(&cluster)["spec"].clone();
    assert!(!held["deployments"][WEB]["release"].is_null(), "{held}");
    let rollout = serde_json::from_value(get(&cluster.server, &rollouts(), WEB)).unwrap();
    let old = GateEntry { release: Some("old".to_owned()), ..GateEntry::default() };
    for entry in [Some(Box::new(old)), None] {
        let plan = Plan {
            status: RolloutStatus::default(),
            urgency: Urgency::None,
            actions: vec![Action::Gate { workload: WEB.to_owned(), entry }],
            calls: Vec::new(),
            wake: None,
            waiting: None,
        };
        let target = Target {
            rollout: &rollout,
            account: ACCOUNT,
            instance: "late",
            now: cluster.clock.now(),
            gate: Some(planned_on.clone()),
        };
        let client = cluster.server.client(ACCOUNT);
        let done = apply::run(&client, &Operator::acting(), &target, &plan, |_| ()).await;
        assert_eq!(done.unwrap_err().class(), Class::Conflict);
        assert_eq!(gate(&cluster)["spec"], held);
    }
}
