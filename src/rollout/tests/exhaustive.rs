//! Every small plan, with traffic and without, every verdict, a crash after every action: the release ends as
//! its verdicts say, and what holds of a large one holds of these after each single event.
//!
//! The planner alone decides here; the Deployment controller is the model that the knob is tried against.
//! Endpoints and the router's word on a route come late.

use crate::workload::tests::native::{Native, Set, user as user_of};

use super::*;

/// Turns after which a release that is not over never will be: the longest needs about a fifth of them.
const TURNS: usize = 400;

/// Enumerates: each run makes its choices in order, the next run changes the last one that can be changed.
#[derive(Default)]
struct Choices {
    /// What was chosen, of how many.
    made: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
    /// One of `of`.
    fn pick(&mut self, of: usize) -> usize {
        if self.at == self.made.len() {
            self.made.push((0, of));
        }
        let (chosen, _) = self.made[self.at];
        self.at += 1;
        chosen
    }

    /// False when every combination has been.
    fn next(&mut self) -> bool {
        self.at = 0;
        while let Some((chosen, of)) = self.made.pop() {
            if chosen + 1 < of {
                self.made.push((chosen + 1, of));
                return true;
            }
        }
        false
    }
}

/// How a step is left.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Leaves {
    Approved,
    Passed,
    OverruledByAPerson,
    Failed,
    GivenUpByAPerson,
    ErredAndGivenUp,
    /// The first time to the first step, then approved.
    JumpedBack,
}

/// Which steps have traffic of their own.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Traffic {
    None,
    Each,
    /// Every combination.
    Any,
}

/// A step: its pods, whether it has traffic, how it is left.
type Scripted = (i32, bool, Leaves);

/// The user's Service.
pub(super) fn service() -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": "default", "uid": "s", "resourceVersion": "1"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}})
}

/// The user's route, accepted.
pub(super) fn route() -> Value {
    let mut route = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "web", "namespace": "default", "uid": "h", "resourceVersion": "1",
            "generation": 1},
        "spec": {"parentRefs": [{"name": "web"}],
            "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]}});
    accept(&mut route);
    route
}

/// The router's word on the route as it is now. True when that is news.
pub(super) fn accept(route: &mut Value) -> bool {
    let condition = |kind: &str| {
        json!({"type": kind, "status": "True", "reason": kind, "message": "",
            "observedGeneration": route["metadata"]["generation"],
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    let status = json!({"parents": [{"parentRef": {"name": "web"}, "controllerName": "r.test/r",
        "conditions": [condition("Accepted"), condition("ResolvedRefs")]}]});
    let news = route["status"] != status;
    route["status"] = status;
    news
}

/// A release, its cluster and what is to come of it.
struct World {
    s: Snapshot,
    native: Native,
    /// How the steps are left.
    outcomes: Vec<Leaves>,
    /// The process dies after so many actions.
    dies_after: Option<usize>,
    actions: usize,
    /// The weights that the gateway has accepted last.
    served: Vec<(String, i64)>,
    surge: i32,
    unavailable: i32,
}

impl World {
    fn new(n: i32, (surge, unavailable): (i32, i32), script: &[Scripted]) -> Self {
        let fields = user_of(IntOrString::Int(surge), IntOrString::Int(unavailable), None);
        let step = |(pods, moves, outcome): &Scripted| {
            let mut step = match outcome {
                Leaves::Approved | Leaves::JumpedBack => json!({"replicas": pods, "pause": {}}),
                _ => json!({"replicas": pods, "analysis": {"templates": [{"templateName": "t"}]}}),
            };
            if *moves {
                step["traffic"] = json!(format!("{}%", share(*pods, n)));
            }
            step
        };
        let steps: Vec<Value> = script.iter().map(step).collect();
        let mut canary = json!({"steps": steps});
        let mut s = held();
        if script.iter().any(|(_, moves, _)| *moves) {
            canary["trafficRoutings"] =
                json!([{"service": "web", "gateway": {"httpRouteName": "web"}}]);
            s.services.insert("web".into(), service());
            s.endpoints.insert("web".into(), n);
            s.routes.insert("web".into(), route());
        }
        s.rollout = rollout(&json!({"strategy": {"canary": canary}}));
        watch::templates(&mut s);
        // A step waits for it.
        for template in s.templates.values_mut() {
            template.metrics[0].count = Some(IntOrString::Int(3));
        }
        let native = Native::held(n, &fields);
        let outcomes = script.iter().map(|(_, _, outcome)| *outcome).collect();
        Self {
            s,
            native,
            outcomes,
            dies_after: None,
            actions: 0,
            served: Vec::new(),
            surge,
            unavailable,
        }
    }

    fn release(&self) -> Option<&ReleaseStatus> {
        self.s.rollout.status.as_ref()?.release.as_ref()
    }

    /// What the API server does with an action.
    fn apply(&mut self, action: &Action, made: &Plan) {
        match action {
            Action::Status => self.s.rollout.status = Some(made.status.clone()),
            Action::Gate { workload, entry } => {
                let gate =
                    self.s.gate.get_or_insert_with(|| GateView { spec: GateSpec::default() });
                gate.spec.account = Some("sluice".into());
                gate.spec.deployments.remove(workload);
                if let Some(entry) = entry {
                    gate.spec.deployments.insert(workload.clone(), (**entry).clone());
                }
            }
            Action::Finalizer(on) => {
                self.s.rollout.metadata.finalizers = on.then(|| vec![FINALIZER.into()]);
            }
            Action::Workload { write, .. } => self.native.write(write),
            Action::StartRun(run) => {
                let name = run.metadata.name.clone().unwrap();
                self.s.runs.insert(name, (**run).clone());
            }
            Action::EndRun { name, .. } => {
                self.s.runs.get_mut(name).unwrap().spec.terminate = true;
            }
            Action::CreateService(object) | Action::PutService(object) => {
                let name = object["metadata"]["name"].as_str().unwrap().to_owned();
                let mut object = (**object).clone();
                object["metadata"]["uid"] = json!("s");
                self.s.services.insert(name, object);
            }
            Action::DeleteService { name, .. } => {
                self.s.services.remove(name);
                self.s.endpoints.remove(name);
            }
            Action::PutRoute(object) => {
                let mut object = (**object).clone();
                let generation = object["metadata"]["generation"].as_i64().unwrap();
                object["metadata"]["generation"] = json!(generation + 1);
                self.s.routes.insert("web".into(), object);
            }
            Action::Event(_) => {}
            other => panic!("nobody asked for {other:?}"),
        }
    }

    fn invariants(&self) {
        let native = &self.native;
        let least = native.n - self.unavailable;
        assert!(native.available(0) >= least, "{} are available", native.available(0));
        let release = self.release();
        let backward = release.is_some_and(|r| r.backward);
        // To a smaller step a stable pod comes before a new one goes, whatever the user's surge.
        let surge = self.surge.max(i32::from(backward));
        assert!(native.total() <= native.n + surge, "{} pods", native.total());
        for (service, weight) in self.backends() {
            let ready = self.ready_of(&service);
            assert!(
                weight == 0 || least <= 0 || ready > 0,
                "{service} has {weight} and no endpoint"
            );
        }
        let weights: Vec<i64> = self.backends().into_iter().map(|(_, weight)| weight).collect();
        let whole = weights.len() < 2 || weights.iter().sum::<i64>() == 100;
        assert!(whole, "weights_sum: {weights:?}");
        let Some(release) = release.filter(|r| r.stage == Stage::Stepping) else { return };
        let Some(step) = release.frozen_step.as_ref() else { return };
        if backward && step.traffic.is_some() {
            // A weight is a whole percentage.
            let most = 100.0 / f64::from(least.max(1)) + 1.0;
            let load = self.largest_load(&self.backends());
            assert!(load <= most, "a pod has {load:.1}% of the load, {:?}", self.backends());
        }
        if !backward && step.traffic.is_some() {
            // For the moment between new pods that are ready and the gateway's word on their weight.
            let most = 200.0 / f64::from(least.max(1)) + 1.0;
            for weights in [&self.backends(), &self.served] {
                let load = self.largest_load(weights);
                assert!(load <= most, "a pod has {load:.1}% of the load, {weights:?}");
            }
        }
        if let Some(IntOrString::Int(k)) = step.replicas.as_ref().filter(|_| !backward) {
            let most = *k.min(&native.n);
            assert!(native.size("v2") <= most, "{} new in a step of {k}", native.size("v2"));
        }
    }

    /// The percentage of all requests that the busiest pod gets by these weights.
    fn largest_load(&self, weights: &[(String, i64)]) -> f64 {
        let ready = |set: &&Set| set.pods.iter().any(Option::is_some);
        let sets = self.native.sets.iter().filter(ready);
        let load = |set: &Set| {
            let backends = weights.iter().filter(|(name, _)| {
                let hash = &self.s.services[name]["spec"]["selector"]["pod-template-hash"];
                hash.as_str().is_none_or(|hash| hash == set.version)
            });
            let part = |(name, weight): &(String, i64)| {
                f64::from(i32::try_from(*weight).unwrap()) / f64::from(self.ready_of(name))
            };
            backends.map(part).sum::<f64>()
        };
        sets.map(load).fold(0.0, f64::max)
    }

    /// The backends of the route, if there is one, with their weights.
    fn backends(&self) -> Vec<(String, i64)> {
        let rules = self.s.routes.get("web").map(|route| &route["spec"]["rules"][0]["backendRefs"]);
        let all = rules.and_then(Value::as_array).into_iter().flatten();
        let read =
            |b: &Value| (b["name"].as_str().unwrap().to_owned(), b["weight"].as_i64().unwrap_or(1));
        all.map(read).collect()
    }

    /// Pods that are ready and that a Service selects.
    fn ready_of(&self, service: &str) -> i32 {
        let Some(object) = self.s.services.get(service) else { return 0 };
        let hash = object["spec"]["selector"]["pod-template-hash"].as_str();
        let sets = self.native.sets.iter().filter(|set| hash.is_none_or(|h| h == set.version));
        i32::try_from(sets.flat_map(|set| &set.pods).flatten().count()).unwrap()
    }

    /// The controller's turn. True when it has done something.
    fn plan(&mut self) -> bool {
        self.s.workload = Some(self.native.view());
        let made = plan(&self.s, self.native.now);
        assert_eq!(check(&self.s, &made), []);
        for action in &made.actions {
            self.apply(action, &made);
            self.invariants();
            self.actions += 1;
            if self.dies_after == Some(self.actions) {
                return true;
            }
        }
        if made.urgency == Urgency::Soon {
            self.s.rollout.status = Some(made.status.clone());
        }
        !made.actions.is_empty()
    }

    /// The cluster's turn: everything that happens by itself, a step at a time. True when it did.
    fn settle(&mut self, acted: bool) -> bool {
        let before = self.native.clone();
        self.native.sync();
        self.invariants();
        for index in 0..self.native.sets.len() {
            self.native.sync_set(index);
            self.invariants();
        }
        let names: Vec<String> = self.s.services.keys().cloned().collect();
        let ready = names.into_iter().map(|name| (name.clone(), self.ready_of(&name))).collect();
        let late = std::mem::replace(&mut self.s.endpoints, ready);
        if before != self.native || late != self.s.endpoints {
            return true;
        }
        // The router is slower than the planner.
        if !acted && self.s.routes.get_mut("web").is_some_and(accept) {
            self.served = self.backends();
            return true;
        }
        self.native.ready_one(0);
        before != self.native
    }

    /// Nothing moves by itself: a measurement ends, or a person acts.
    fn decide(&mut self) {
        let release = self.release().expect("nobody waits");
        let step = usize::try_from(release.step).unwrap();
        let outcome = self.outcomes[step];
        let wanted = release.frozen_step.as_ref().and_then(|step| step.traffic.clone());
        if let Some(wanted) = wanted.filter(|_| release.stage == Stage::Stepping) {
            let canary = self.backends().into_iter().find(|(name, _)| name == "web-canary");
            let has = canary.map(|(_, weight)| format!("{weight}%"));
            assert_eq!(has, Some(wanted), "the step's traffic");
        }
        if outcome == Leaves::JumpedBack && step > 0 {
            self.outcomes[step] = Leaves::Approved;
            let status = self.s.rollout.status.as_mut().unwrap();
            status.canary_status.as_mut().unwrap().next_step_index = Some(1);
            return;
        }
        let (phase, verdict) = match outcome {
            Leaves::Failed => ("Failed", "Fail"),
            Leaves::OverruledByAPerson | Leaves::GivenUpByAPerson => {
                ("Inconclusive", "Inconclusive")
            }
            Leaves::ErredAndGivenUp => ("Error", "Inconclusive"),
            _ => ("Successful", "Pass"),
        };
        let verb = match outcome {
            Leaves::GivenUpByAPerson | Leaves::ErredAndGivenUp => RequestVerb::Abort,
            _ => RequestVerb::Approve,
        };
        if let Some(run) = self.s.runs.values_mut().find(|run| run.status.is_none()) {
            let status = json!({"phase": phase, "verdict": verdict, "reason": "measured",
                "completedAt": self.native.now.to_string()});
            run.status = Some(serde_json::from_value(status).unwrap());
            return;
        }
        let waiting = self.s.rollout.status.as_ref().unwrap().waiting_for.clone();
        let waits = waiting.as_deref().is_some_and(|w| w.contains("approv"));
        assert!(waits, "never_silently_stuck: {waiting:?}");
        ask(&mut self.s, verb);
    }

    /// To the end; the number of actions.
    fn play(&mut self) -> usize {
        for _ in 0..TURNS {
            let acted = self.plan();
            if self.settle(acted) || acted {
                continue;
            }
            if self.release().is_none() {
                self.over();
                return self.actions;
            }
            self.decide();
        }
        panic!("does not end: {:?}", self.s.rollout.status);
    }

    /// Everything is as the verdicts say and as the user wrote it.
    fn over(&self) {
        let bad = [Leaves::Failed, Leaves::GivenUpByAPerson, Leaves::ErredAndGivenUp];
        let good = !self.outcomes.iter().any(|outcome| bad.contains(outcome));
        let last = self.s.rollout.status.as_ref().unwrap().last_release.clone().unwrap();
        assert_eq!(last.decision, if good { "Promoted" } else { "RolledBack" });
        let native = &self.native;
        let version = if good { "v2" } else { "v1" };
        let sizes = (native.version, native.size(version), native.total(), native.available(0));
        assert_eq!(sizes, (version, native.n, native.n, native.n));
        let fields =
            user_of(IntOrString::Int(self.surge), IntOrString::Int(self.unavailable), None);
        assert_eq!(native.fields, fields);
        let entry = &self.s.gate.as_ref().unwrap().spec.deployments["web"];
        assert_eq!((&entry.release, &entry.originals), (&None, &None));
        assert_eq!(self.s.rollout.metadata.finalizers, None);
        if !self.s.routes.is_empty() {
            assert_eq!(self.s.routes["web"]["spec"], route()["spec"]);
            let services: Vec<&Value> = self.s.services.values().map(|s| &s["spec"]).collect();
            assert_eq!(services, [&service()["spec"]]);
        }
    }
}

/// The percentage of `n` that so many pods are.
fn share(pods: i32, n: i32) -> i32 {
    100 * pods / n
}

/// Sizes of up to `most` steps, none smaller than the one before, and how each is left. What ends a release
/// ends the plan.
fn script(choices: &mut Choices, n: i32, plans: &Plans<'_>) -> Vec<Scripted> {
    let (mut script, mut least) = (Vec::new(), 1);
    let (fewest, most) = plans.steps;
    let mut good = true;
    for _ in 0..fewest + choices.pick(most - fewest + 1) {
        least += i32::try_from(choices.pick(usize::try_from(n - least + 1).unwrap())).unwrap();
        let moves = match plans.traffic {
            Traffic::None => false,
            Traffic::Each => true,
            Traffic::Any => choices.pick(2) == 1,
        };
        let outcome =
            if good { plans.ways[choices.pick(plans.ways.len())] } else { Leaves::Approved };
        let bad = [Leaves::Failed, Leaves::GivenUpByAPerson, Leaves::ErredAndGivenUp];
        good &= !bad.contains(&outcome);
        script.push((least, moves, outcome));
    }
    script
}

/// What is enumerated.
struct Plans<'a> {
    /// The fewest and the most pods.
    pods: (i32, i32),
    /// The fewest and the most steps.
    steps: (usize, usize),
    ways: &'a [Leaves],
    budgets: &'a [(i32, i32)],
    traffic: Traffic,
    /// Again for each action, after which the process dies.
    crashes: bool,
}

/// Plays every script; says how many those were.
fn enumerate(plans: &Plans<'_>) -> usize {
    let mut played = 0;
    for n in plans.pods.0..=plans.pods.1 {
        for budget in plans.budgets {
            let mut choices = Choices::default();
            loop {
                let script = script(&mut choices, n, plans);
                let play = |dies_after| {
                    let mut world = World::new(n, *budget, &script);
                    world.dies_after = dies_after;
                    let name = (n, budget, &script, dies_after);
                    let played = std::panic::AssertUnwindSafe(|| world.play());
                    std::panic::catch_unwind(played).unwrap_or_else(|why| {
                        println!("pods, budget, steps, dies after: {name:?}");
                        std::panic::resume_unwind(why)
                    })
                };
                let actions = play(None);
                played += 1;
                for after in (1..=actions).filter(|_| plans.crashes) {
                    play(Some(after));
                    played += 1;
                }
                if !choices.next() {
                    break;
                }
            }
        }
    }
    played
}

const BUDGETS: [(i32, i32); 3] = [(1, 0), (0, 1), (1, 1)];
const ALL: [Leaves; 6] = [
    Leaves::Passed,
    Leaves::Approved,
    Leaves::OverruledByAPerson,
    Leaves::Failed,
    Leaves::GivenUpByAPerson,
    Leaves::ErredAndGivenUp,
];
/// One that goes on, one that fails, and one that cannot tell, which a person lets go back or go on.
const VERDICTS: [Leaves; 4] =
    [Leaves::Passed, Leaves::Failed, Leaves::ErredAndGivenUp, Leaves::OverruledByAPerson];

#[test]
fn every_small_plan_ends_as_its_verdicts_say() {
    let short = Plans {
        pods: (1, 3),
        steps: (1, 3),
        ways: &ALL,
        budgets: &BUDGETS,
        traffic: Traffic::None,
        crashes: false,
    };
    let long = Plans { steps: (4, 4), ways: &VERDICTS, budgets: &BUDGETS[..1], ..short };
    println!("{} releases", enumerate(&short) + enumerate(&long));
}

#[test]
fn every_small_plan_with_traffic_ends_as_its_verdicts_say() {
    let mixed = Plans {
        pods: (1, 3),
        steps: (1, 2),
        ways: &VERDICTS,
        budgets: &BUDGETS[..2],
        traffic: Traffic::Any,
        crashes: false,
    };
    let each = Plans { steps: (3, 3), traffic: Traffic::Each, ..mixed };
    let long = Plans { steps: (4, 4), ways: &VERDICTS[..3], budgets: &BUDGETS[..1], ..each };
    println!("{} releases", enumerate(&mixed) + enumerate(&each) + enumerate(&long));
}

#[test]
fn every_small_plan_that_jumps_back_loads_no_pod_more_than_the_users_budget_does() {
    let each = Plans {
        pods: (1, 3),
        steps: (2, 3),
        ways: &[Leaves::Approved, Leaves::JumpedBack],
        budgets: &BUDGETS,
        traffic: Traffic::Each,
        crashes: false,
    };
    let short = Plans { steps: (2, 2), budgets: &BUDGETS[..1], ..each };
    let mixed = Plans { traffic: Traffic::Any, ..short };
    let crashes = Plans { ways: &[Leaves::JumpedBack], crashes: true, ..short };
    let played = [each, mixed, crashes].iter().map(enumerate).sum::<usize>();
    println!("{played} releases");
}

#[test]
fn a_step_of_any_size_leaves_the_stable_pods_at_least_half_of_what_the_users_budget_does() {
    let one = Plans {
        pods: (4, 9),
        steps: (1, 2),
        ways: &[Leaves::Approved],
        budgets: &[(1, 0), (0, 1), (1, 1), (2, 1), (3, 2)],
        traffic: Traffic::Each,
        crashes: false,
    };
    let failed = Plans { pods: (6, 6), ways: &[Leaves::Passed, Leaves::Failed], ..one };
    let crashes = Plans { pods: (6, 6), budgets: &[(1, 1)], crashes: true, ..one };
    let played = [one, failed, crashes].iter().map(enumerate).sum::<usize>();
    println!("{played} releases");
}

#[test]
fn every_small_plan_ends_the_same_when_the_process_dies_after_any_action() {
    use Leaves::*;
    let short = Plans {
        pods: (1, 3),
        steps: (1, 2),
        ways: &[Passed, Approved, Failed, GivenUpByAPerson],
        budgets: &BUDGETS[..2],
        traffic: Traffic::None,
        crashes: true,
    };
    let long = Plans { steps: (4, 4), ways: &[Passed], budgets: &BUDGETS[..1], ..short };
    let routed =
        Plans { ways: &[Passed, Failed], budgets: &BUDGETS[..1], traffic: Traffic::Each, ..short };
    let played = enumerate(&short) + enumerate(&long) + enumerate(&routed);
    println!("{played} releases");
}
