//! The controller dies before and after each of its writes: the release ends in the same way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sluice::sim::apiserver::{Call, Fault, PatchType, RequestInfo, Verb};
use sluice::sim::cluster::{ACCOUNT, Cluster, USER};

use crate::world::{
    Owned, Shape, WEB, get, left_over, pods_by_image, rollouts, seconds, set_image,
};

/// A release and how it ends.
struct Story {
    routed: bool,
    image: &'static str,
    decision: &'static str,
    runs: &'static str,
}

/// Where the controller dies.
#[derive(Debug, Clone, Copy)]
struct Death {
    /// At which of its writes, from 1.
    write: usize,
    /// After it was done, or before.
    done: bool,
}

/// The controller as its API server sees it.
#[derive(Clone, Default)]
struct Watched {
    writes: Arc<AtomicUsize>,
    dead: Arc<AtomicBool>,
    last: Arc<Mutex<String>>,
}

impl Watched {
    fn judge(&self, request: &RequestInfo, death: Option<Death>) -> Fault {
        if request.user != ACCOUNT {
            return Fault::Pass;
        }
        if self.dead.load(Ordering::Relaxed) {
            return Fault::Disconnect { done: false };
        }
        if !request.writes() {
            return Fault::Pass;
        }
        let number = self.writes.fetch_add(1, Ordering::Relaxed) + 1;
        match death {
            Some(death) if death.write == number => {
                self.dead.store(true, Ordering::Relaxed);
                *self.last.lock().unwrap() = format!("{} {}", request.verb, request.resource);
                Fault::Disconnect { done: death.done }
            }
            _ => Fault::Pass,
        }
    }

    /// Lets time pass; a dead controller is started again after two seconds.
    async fn advance(&self, cluster: &mut Cluster, span: i64) {
        let end = cluster.server.now().saturating_add(seconds(span)).unwrap();
        loop {
            let rest = end.duration_since(cluster.server.now());
            let dead = self.dead.clone();
            if !cluster.run_while(rest, move |_| dead.load(Ordering::Relaxed)).await {
                return;
            }
            cluster.kill_controller();
            cluster.run_for(seconds(2)).await;
            self.dead.store(false, Ordering::Relaxed);
            cluster.start_controller();
        }
    }
}

impl Story {
    fn shape(&self) -> Shape {
        let steps = if self.routed {
            json!([
                {"replicas": "20%", "traffic": "20%", "pause": {"duration": 3}},
                {"replicas": "100%", "traffic": "100%"},
            ])
        } else {
            json!([{"replicas": "40%", "pause": {"duration": 3}}, {"replicas": "100%"}])
        };
        Shape {
            replicas: 5,
            max_surge: json!(1),
            max_unavailable: json!(1),
            routed: self.routed,
            steps,
            ready_after: seconds(1),
        }
    }

    /// Plays it; how many writes there were, or what is wrong.
    async fn play(&self, death: Option<Death>) -> Result<usize, String> {
        let watched = Watched::default();
        let mut cluster = self.shape().cluster(1, "web:v1").await;
        let before = Owned::of(&cluster.server);
        let judge = watched.clone();
        cluster.server.faults().set(Box::new(move |request| judge.judge(request, death)));
        cluster.server.create(USER, self.shape().rollout()).unwrap();
        watched.advance(&mut cluster, 8).await;
        set_image(&cluster.server, self.image);
        watched.advance(&mut cluster, 150).await;
        let found = self.check(&cluster, &before);
        let last = watched.last.lock().unwrap().clone();
        let when = death.map_or(String::new(), |d| {
            format!("dead {} write {} ({last}): ", if d.done { "after" } else { "before" }, d.write)
        });
        match found {
            Ok(()) => Ok(watched.writes.load(Ordering::Relaxed)),
            Err(text) => Err(format!("{when}{text}\n{}", cluster.transcript)),
        }
    }

    fn check(&self, cluster: &Cluster, before: &Owned) -> Result<(), String> {
        let server = &cluster.server;
        let status = get(server, &rollouts(), WEB)["status"].clone();
        let decision = &status["lastRelease"]["decision"];
        if decision != self.decision {
            return Err(format!("it ended in {decision}, waiting for {}", status["waitingFor"]));
        }
        let should = before.clone().with_image(self.runs);
        if let Some(text) = Owned::of(server).differs(&should) {
            return Err(text);
        }
        if let Some(text) = left_over(server) {
            return Err(format!("left over: {text}"));
        }
        let pods = pods_by_image(server);
        if pods != [(self.runs.to_owned(), (5, 5))].into() {
            return Err(format!("pods: {pods:?}"));
        }
        if cluster.fought || !cluster.violations.is_empty() {
            return Err(format!("fought: {}, {:?}", cluster.fought, cluster.violations));
        }
        Ok(())
    }

    async fn survives_every_crash(&self) {
        let writes = self.play(None).await.unwrap_or_else(|e| panic!("undisturbed: {e}"));
        assert!(writes > 10, "only {writes} writes: the story does not happen");
        let mut bad = Vec::new();
        for write in 1..=writes {
            for done in [false, true] {
                if let Err(text) = self.play(Some(Death { write, done })).await {
                    println!("{}", text.lines().next().unwrap_or_default());
                    bad.push(text);
                }
            }
        }
        println!("{writes} writes, {} crashes, {} of them wrong", 2 * writes, bad.len());
        assert!(bad.is_empty(), "{} of {} runs:\n{}", bad.len(), 2 * writes, bad.join("\n"));
    }
}

#[tokio::test]
async fn a_plain_release_survives_a_crash_at_each_of_its_writes() {
    let story = Story { routed: false, image: "web:v2", decision: "Promoted", runs: "web:v2" };
    story.survives_every_crash().await;
}

#[tokio::test]
async fn a_routed_release_survives_a_crash_at_each_of_its_writes() {
    let story = Story { routed: true, image: "web:v2", decision: "Promoted", runs: "web:v2" };
    story.survives_every_crash().await;
}

#[tokio::test]
async fn a_rollback_survives_a_crash_at_each_of_its_writes() {
    let story =
        Story { routed: true, image: "web:never-ready", decision: "RolledBack", runs: "web:v1" };
    story.survives_every_crash().await;
}

/// Every write of a release with hooks, before and after: no decision reaches its hook twice, whatever is
/// lost; what was lost waits for a person, and nothing else does.
#[tokio::test]
async fn a_crash_at_any_write_sends_no_decision_to_a_hook_twice() {
    let writes = play_hooked(None).await.unwrap_or_else(|e| panic!("undisturbed: {e}"));
    assert!(writes > 20, "only {writes} writes: the story does not happen");
    let mut bad = Vec::new();
    for write in 1..=writes {
        for done in [false, true] {
            if let Err(text) = play_hooked(Some(Death { write, done })).await {
                bad.push(format!("dead at write {write}, done {done}: {text}"));
            }
        }
    }
    println!("{writes} writes, {} crashes, {} of them wrong", 2 * writes, bad.len());
    assert!(bad.is_empty(), "{} of {} runs:\n{}", bad.len(), 2 * writes, bad.join("\n"));
}

/// A release with a hook at every moment; a person goes on where an answer was lost.
async fn play_hooked(death: Option<Death>) -> Result<usize, String> {
    let story = Story { routed: false, image: "web:v2", decision: "Promoted", runs: "web:v2" };
    let watched = Watched::default();
    let mut cluster = story.shape().cluster(1, "web:v1").await;
    let before = Owned::of(&cluster.server);
    let judge = watched.clone();
    cluster.server.faults().set(Box::new(move |request| judge.judge(request, death)));
    cluster.hooks.cut_by(watched.dead.clone());
    let mut rollout = story.shape().rollout();
    let hook = |name: &str, at: &str| json!({"name": name, "at": at, "url": "http://gate"});
    rollout["spec"]["strategy"]["canary"]["hooks"] = json!([
        hook("a", "BeforeRollout"),
        hook("b", "BeforeStep"),
        hook("c", "AfterStep"),
        hook("d", "BeforePromotion"),
        hook("e", "AfterRollout"),
    ]);
    cluster.server.create(USER, rollout).unwrap();
    watched.advance(&mut cluster, 8).await;
    set_image(&cluster.server, story.image);
    let mut lost = 0;
    for _ in 0..15 {
        watched.advance(&mut cluster, 10).await;
        let waits = get(&cluster.server, &rollouts(), WEB)["status"]["waitingFor"].to_string();
        if waits.contains("the controller stopped before the answer came") {
            lost += 1;
            let body = json!({"status": {"request": {"verb": "Approve"}}});
            let mut call = Call::new(USER, Verb::Patch(PatchType::Merge), &rollouts());
            call = call.namespace("default").name(WEB).body(body);
            call.subresource = Some("status".into());
            cluster.server.call(call).unwrap();
        }
    }
    story.check(&cluster, &before).map_err(|text| format!("{text}\n{}", cluster.transcript))?;
    let mut calls = BTreeMap::new();
    for call in cluster.hooks.heard() {
        *calls.entry((call.id, call.name)).or_insert(0) += 1;
    }
    let twice: Vec<_> = calls.iter().filter(|(_, count)| **count > 1).collect();
    if !twice.is_empty() || lost > 1 || (death.is_none() && (lost > 0 || calls.len() != 7)) {
        return Err(format!("twice: {twice:?}, lost: {lost}, calls: {calls:?}"));
    }
    Ok(watched.writes.load(Ordering::Relaxed))
}

/// The check above can fail: what it reads is really there.
#[tokio::test]
async fn the_check_sees_a_route_that_was_not_restored() {
    let story = Story { routed: true, image: "web:v2", decision: "Promoted", runs: "web:v2" };
    let cluster = story.shape().cluster(1, "web:v1").await;
    let before = Owned::of(&cluster.server);
    let body = json!({"spec": {"hostnames": ["other.test"]}});
    let key = crate::world::routes();
    cluster.server.patch_merge(USER, &key, "default", WEB, body).unwrap();
    let found = Owned::of(&cluster.server).differs(&before);
    assert!(found.is_some_and(|text| text.contains("other.test")));
    assert_ne!(before.route, Value::Null);
}
