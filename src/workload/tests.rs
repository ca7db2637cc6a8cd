//! The knob against a small model of the native Deployment controller, and its tables.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};

use super::deployment::{give_back, put_back, read_wanted, rest};
use super::knob::{Aim, Knob, KnobState, knob_value, move_to, next_knob};
use super::view::{budget, scaled, template_hash};
use super::{
    DeploymentView, KnobPatch, Motion, NEVER_READY_SECONDS, PodView, ReplicaSetView, Write,
};
use crate::api::KnobFields;

const START: Timestamp = Timestamp::constant(1_767_225_600, 0);

fn template(version: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"image": version}})
}

fn user(surge: IntOrString, unavailable: IntOrString, min_ready: Option<i32>) -> KnobFields {
    KnobFields {
        min_ready_seconds: min_ready,
        progress_deadline_seconds: Some(600),
        type_: Some("RollingUpdate".into()),
        max_surge: Some(surge),
        max_unavailable: Some(unavailable),
        paused: false,
    }
}

/// A ReplicaSet and since when its pods are ready.
#[derive(Clone, Debug)]
struct Set {
    version: &'static str,
    size: i32,
    min_ready: i32,
    pods: Vec<Option<Timestamp>>,
    /// As its status says, which is behind.
    status: (i32, i32),
}

/// The native controllers, one event at a time. Nothing in it knows the knob.
#[derive(Clone, Debug)]
struct Native {
    n: i32,
    now: Timestamp,
    version: &'static str,
    fields: KnobFields,
    generation: i64,
    observed: i64,
    /// Oldest first.
    sets: Vec<Set>,
    writes: usize,
}

impl Native {
    /// All of v1 and ready for long, v2 held.
    fn held(n: i32, fields: &KnobFields) -> Self {
        let ready = START - SignedDuration::from_hours(1);
        let pods = vec![Some(ready); usize::try_from(n).unwrap()];
        let min_ready = fields.min_ready_seconds.unwrap_or(0);
        let sets = vec![Set { version: "v1", size: n, min_ready, pods, status: (n, n) }];
        let fields = KnobFields { paused: true, ..fields.clone() };
        Self { n, now: START, version: "v2", fields, generation: 2, observed: 2, sets, writes: 0 }
    }

    fn size(&self, version: &str) -> i32 {
        self.sets.iter().filter(|s| s.version == version).map(|s| s.size).sum()
    }

    fn total(&self) -> i32 {
        self.sets.iter().map(|s| s.size).sum()
    }

    /// Pods that are available by the user's own `minReadySeconds`.
    fn available(&self, min_ready: i32) -> i32 {
        let span = SignedDuration::from_secs(i64::from(min_ready));
        let pods = self.sets.iter().flat_map(|s| &s.pods).flatten();
        i32::try_from(pods.filter(|at| **at + span <= self.now).count()).unwrap()
    }

    /// One sync of the Deployment controller.
    fn sync(&mut self) {
        self.observed = self.generation;
        let surge = scaled(self.fields.max_surge.as_ref().unwrap(), self.n, true);
        let unavailable = scaled(self.fields.max_unavailable.as_ref().unwrap(), self.n, false);
        let min_ready = self.fields.min_ready_seconds.unwrap_or(0);
        let most = self.n + surge;
        if let Some(new) = self.sets.iter_mut().find(|s| s.version == self.version) {
            new.min_ready = min_ready;
        }
        if self.fields.paused {
            return self.sync_paused(most);
        }
        if !self.sets.iter().any(|s| s.version == self.version) {
            let size = (most - self.total()).clamp(0, self.n);
            let version = self.version;
            self.sets.push(Set { version, size, min_ready, pods: vec![], status: (0, 0) });
            return;
        }
        let total = self.total();
        let n = self.n;
        let new = self.sets.iter_mut().find(|s| s.version == self.version).unwrap();
        let size = if new.size > n { n } else { new.size + (most - total).clamp(0, n - new.size) };
        if size != new.size {
            new.size = size;
            return;
        }
        let unready = new.size - new.status.1;
        let spare = total - (n - unavailable) - unready;
        if spare > 0 {
            self.shrink_old(spare, n - unavailable);
        }
    }

    /// Old pods that are not available first, then as many as the available ones allow.
    fn shrink_old(&mut self, spare: i32, least: i32) {
        let mut left = spare;
        for set in self.sets.iter_mut().filter(|s| s.version != self.version && s.size > 0) {
            let by = (set.size - set.status.1).min(left);
            if by < 0 {
                return;
            }
            set.size -= by;
            left -= by;
        }
        let available: i32 = self.sets.iter().map(|s| s.status.1).sum();
        let mut left = available - least;
        for set in self.sets.iter_mut().filter(|s| s.version != self.version) {
            let by = set.size.min(left.max(0));
            set.size -= by;
            left -= by;
        }
    }

    /// While paused the sizes are made to add up, at the largest.
    fn sync_paused(&mut self, most: i32) {
        let n = self.n;
        let difference = most - self.total();
        let mut active: Vec<&mut Set> = self.sets.iter_mut().filter(|s| s.size > 0).collect();
        match active.as_mut_slice() {
            [] => {}
            [only] => only.size = n,
            several => {
                let largest = several.iter_mut().max_by_key(|s| s.size).unwrap();
                largest.size = (largest.size + difference).max(0);
            }
        }
    }

    /// One sync of a ReplicaSet: its pods and its status. Pods that are not ready go first.
    fn sync_set(&mut self, index: usize) {
        let now = self.now;
        let Some(set) = self.sets.get_mut(index) else { return };
        let span = SignedDuration::from_secs(i64::from(set.min_ready));
        set.pods.sort_by_key(|p| p.is_none());
        set.pods.resize(usize::try_from(set.size).unwrap(), None);
        let ready = set.pods.iter().flatten().filter(|at| **at + span <= now).count();
        set.status = (set.size, i32::try_from(ready).unwrap());
    }

    /// One pod gets ready.
    fn ready_one(&mut self, pick: usize) {
        let now = self.now;
        let waiting: Vec<&mut Option<Timestamp>> =
            self.sets.iter_mut().flat_map(|s| &mut s.pods).filter(|p| p.is_none()).collect();
        let count = waiting.len();
        if let Some(pod) = waiting.into_iter().nth(pick % count.max(1)) {
            *pod = Some(now);
        }
    }

    fn view(&self) -> DeploymentView {
        let sets = self.sets.iter().map(|s| ReplicaSetView {
            name: format!("web-{}", s.version),
            uid: s.version.into(),
            resource_version: "1".into(),
            hash: s.version.into(),
            revision: 1,
            replicas: s.size,
            min_ready_seconds: s.min_ready,
            status_replicas: s.status.0,
            available: s.status.1,
            template: template(s.version),
            template_hash: template_hash(&template(s.version)),
            pods: s
                .pods
                .iter()
                .enumerate()
                .map(|(i, at)| PodView { name: i.to_string(), ready_since: *at, problem: None })
                .collect(),
        });
        DeploymentView {
            name: "web".into(),
            uid: "u".into(),
            resource_version: "1".into(),
            generation: self.generation,
            observed_generation: self.observed,
            replicas: self.n,
            fields: self.fields.clone(),
            template: template(self.version),
            template_hash: template_hash(&template(self.version)),
            wanted: None,
            selector: [("app".to_owned(), "web".to_owned())].into(),
            replica_sets: sets.collect(),
            deleting: false,
            owned: None,
        }
    }

    fn write(&mut self, write: &Write) {
        self.writes += 1;
        match write {
            Write::Deployment(patch) => {
                self.generation += 1;
                apply(&mut self.fields, patch);
                if let Some(template) = &patch.template {
                    self.version = if template["spec"]["image"] == "v1" { "v1" } else { "v2" };
                }
            }
            Write::Scale { uid, from, to, .. } => {
                let set = self.sets.iter_mut().find(|s| s.version == uid).unwrap();
                assert_eq!(set.size, *from);
                set.size = *to;
            }
            Write::MinReady { uid, seconds, .. } => {
                self.sets.iter_mut().find(|s| s.version == uid).unwrap().min_ready = *seconds;
            }
        }
        let zero = |v: &Option<IntOrString>| *v == Some(IntOrString::Int(0));
        let both = zero(&self.fields.max_surge) && zero(&self.fields.max_unavailable);
        assert!(!both, "the API server refuses both at 0");
    }
}

fn apply(fields: &mut KnobFields, patch: &KnobPatch) {
    fields.paused = patch.paused.unwrap_or(fields.paused);
    if let Some(seconds) = patch.min_ready_seconds {
        fields.min_ready_seconds = seconds;
    }
    if let Some(seconds) = patch.progress_deadline_seconds {
        fields.progress_deadline_seconds = seconds;
    }
    fields.max_surge = patch.max_surge.clone().or(fields.max_surge.take());
    fields.max_unavailable = patch.max_unavailable.clone().or(fields.max_unavailable.take());
}

/// What a random order of events is picked by.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// What must hold after each single event.
struct Bounds {
    least_available: i32,
    most_pods: i32,
    most_new: i32,
}

/// Plays events in a random order until the move has arrived. Returns the Deployment writes.
fn play(native: &mut Native, aim: Aim<'_>, bounds: &Bounds, dice: &mut Dice) -> usize {
    let min_ready = aim.user.min_ready_seconds.unwrap_or(0);
    let before = native.writes;
    for turn in 0..20_000 {
        match dice.roll(7) {
            0 => native.sync(),
            1 | 2 => {
                let index = dice.roll(native.sets.len());
                native.sync_set(index);
            }
            3 => native.ready_one(dice.roll(100)),
            4 => native.now += SignedDuration::from_secs(1),
            _ => match move_to(&native.view(), aim, native.now) {
                Motion::Arrived => return native.writes - before,
                Motion::Act(write) => native.write(&write),
                Motion::Wait { .. } => {}
            },
        }
        let available = native.available(min_ready);
        assert!(available >= bounds.least_available, "turn {turn}: {available}: {native:?}");
        assert!(native.total() <= bounds.most_pods, "turn {turn}: {native:?}");
        assert!(native.size("v2") <= bounds.most_new, "turn {turn}: {native:?}");
    }
    panic!("does not arrive: {:?} {native:?}", move_to(&native.view(), aim, native.now));
}

/// Everything happens that can happen without us; sizes must stay.
fn settle(native: &mut Native) {
    for _ in 0..4 {
        native.sync();
        for index in 0..native.sets.len() {
            native.sync_set(index);
        }
    }
}

fn bound() -> impl Strategy<Value = IntOrString> {
    prop_oneof![
        (0..6_i32).prop_map(IntOrString::Int),
        (0..=100_i32).prop_map(|p| IntOrString::String(format!("{p}%"))),
    ]
}

prop_compose! {
    fn world()(n in 1..24_i32, surge in bound(), unavailable in bound(), min in 0..4_i32)
        -> (i32, KnobFields)
    {
        let both = scaled(&surge, n, true) == 0 && scaled(&unavailable, n, false) == 0;
        let unavailable = if both { IntOrString::Int(1) } else { unavailable };
        (n, user(surge, unavailable, (min > 0).then_some(min)))
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        rng_seed: RngSeed::Fixed(11),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_release_keeps_the_users_budget_in_any_order_of_events(
        (n, user) in world(),
        shares in prop::collection::vec(1..=100_i32, 1..5),
        seed in any::<u64>(),
    ) {
        let mut native = Native::held(n, &user);
        let mut dice = Dice(seed);
        let (surge, unavailable) = budget(&user, n);
        for share in shares {
            let k = (share * n + 99) / 100;
            let was = native.size("v2");
            let aim = Aim { new_pods: k, exact: true, user: &user, stable: "v1", tolerated: 0 };
            let bounds = Bounds {
                least_available: n - unavailable,
                most_pods: n + surge.max(1),
                most_new: k.max(was),
            };
            // All of one pod is no place to go back from.
            if n == 1 && k < was {
                continue;
            }
            let writes = play(&mut native, aim, &bounds, &mut dice);
            prop_assert_eq!(native.size("v2"), k);
            prop_assert_eq!(native.total(), n);
            if k >= was && k - was <= surge {
                prop_assert!(writes <= 3, "{} writes for {} of {}", writes, k - was, n);
            }
            // The rest keeps the share, whatever the native controller does meanwhile.
            while let Some(write) = rest(&native.view(), &user, false) {
                native.write(&write);
                settle(&mut native);
            }
            prop_assert!(native.fields.paused);
            prop_assert_eq!(native.size("v2"), k, "the rest moved something");
            prop_assert_eq!(native.total(), n, "the rest moved something");
            prop_assert_eq!(native.fields.min_ready_seconds, user.min_ready_seconds);
        }
        // The good end, or the way out: every field is the user's again.
        let view = native.view();
        if let Some(write) = give_back(&view, &user, user.paused, false) {
            native.write(&write);
        }
        prop_assert_eq!(&native.fields, &user);
        prop_assert_eq!(give_back(&native.view(), &user, user.paused, false), None);
    }

    #[test]
    fn a_rollback_from_anywhere_keeps_the_users_budget(
        (n, user) in world(), share in 1..=100_i32, seed in any::<u64>(),
    ) {
        let mut native = Native::held(n, &user);
        let mut dice = Dice(seed);
        let (surge, unavailable) = budget(&user, n);
        let k = (share * n + 99) / 100;
        let aim = Aim { new_pods: k, exact: true, user: &user, stable: "v1", tolerated: 0 };
        let least_available = n - unavailable;
        let bounds = Bounds { least_available, most_pods: n + surge.max(1), most_new: k };
        play(&mut native, aim, &bounds, &mut dice);
        // As `rollout::back` does it: the template, paused, then the user's own fields.
        let write = put_back(&native.view(), &template("v1"), &user);
        native.write(&write);
        if let Some(write) = give_back(&native.view(), &user, false, false) {
            native.write(&write);
        }
        let min_ready = user.min_ready_seconds.unwrap_or(0);
        for turn in 0..20_000 {
            match dice.roll(5) {
                0 => native.sync(),
                1 | 2 => {
                    let index = dice.roll(native.sets.len());
                    native.sync_set(index);
                }
                3 => native.ready_one(dice.roll(100)),
                _ => native.now += SignedDuration::from_secs(1),
            }
            let available = native.available(min_ready);
            prop_assert!(available >= least_available, "turn {}: {:?}", turn, native);
            if native.size("v1") == n && native.size("v2") == 0 && available == n {
                return Ok(());
            }
        }
        prop_assert!(false, "does not come back: {:?}", native);
    }

    #[test]
    fn a_knob_in_percent_is_the_same_number_of_pods(n in 1..=300_i32, pods in 0..=300_i32) {
        let pods = pods.min(n);
        prop_assert_eq!(scaled(&knob_value(pods, n), n, false), pods);
    }
}

/// The settings that the knob goes through when every pod gets ready before the next look.
fn settings(n: i32, k: i32, user_surge: i32, user_unavailable: i32) -> Vec<(i32, i32)> {
    let mut out = Vec::new();
    let (mut new, mut set) = (0, None);
    loop {
        let state = KnobState {
            n,
            k,
            new,
            available: new,
            tolerated: 0,
            user_surge,
            user_unavailable,
            set,
        };
        let Knob { unavailable, surge } = next_knob(state);
        if set == Some(Knob { unavailable, surge }) && new >= (unavailable + surge).min(k) {
            return out;
        }
        set = Some(Knob { unavailable, surge });
        out.push((surge, unavailable));
        new = new.max(unavailable + surge).min(k);
        assert!(out.len() < 50, "{out:?}");
    }
}

#[test]
fn surge_first_takes_two_writes_where_the_users_surge_covers_the_step() {
    assert_eq!(settings(10, 3, 3, 3), [(3, 0), (0, 3)]);
    assert_eq!(settings(10, 3, 10, 0), [(3, 0), (0, 3)]);
}

#[test]
fn without_surge_the_knob_rises_with_the_pods_that_are_available() {
    assert_eq!(settings(10, 3, 0, 1), [(0, 1), (0, 2), (0, 3)]);
    assert_eq!(settings(10, 3, 0, 3), [(0, 3)]);
}

#[test]
fn a_surge_of_one_goes_one_by_one_and_ends_without_surge() {
    let all = settings(10, 3, 1, 0);
    assert_eq!(all.last(), Some(&(0, 3)), "{all:?}");
    assert!(all.iter().all(|(surge, _)| *surge <= 1), "{all:?}");
    // Never more than one pod beyond those that are available.
    assert_eq!(all, [(1, 0), (1, 1), (1, 2), (0, 3)]);
}

/// What the shipped policy writes for somebody's `minReadySeconds` 7 and surge 50 % under the knob.
const NOTE: &str = r#"{"release":"r1","minReadySeconds":7,"progressDeadlineSeconds":2147483647,
    "type":"RollingUpdate","maxSurge":"50%","maxUnavailable":"30%"}"#;

fn knob_fields() -> KnobFields {
    KnobFields {
        min_ready_seconds: Some(NEVER_READY_SECONDS),
        progress_deadline_seconds: Some(super::NEVER_LATE_SECONDS),
        ..user(IntOrString::Int(0), IntOrString::String("30%".into()), None)
    }
}

fn originals() -> KnobFields {
    user(IntOrString::Int(2), IntOrString::Int(1), Some(5))
}

#[test]
fn what_somebody_wanted_is_taken_where_it_differs_from_the_knob() {
    let (fields, paused) = read_wanted(NOTE, "r1", &knob_fields(), &originals());
    assert_eq!(fields.min_ready_seconds, Some(7));
    assert_eq!(fields.max_surge, Some(IntOrString::String("50%".into())));
    assert_eq!(fields.max_unavailable, Some(IntOrString::Int(1)), "the knob's own, not touched");
    assert_eq!(fields.progress_deadline_seconds, Some(600), "the knob's own, not touched");
    assert!(!paused);
}

#[test]
fn a_wish_of_another_release_is_ignored() {
    // Annotations are copied to ReplicaSets and come back with an undo.
    for other in ["r2", ""] {
        let read = read_wanted(NOTE, other, &knob_fields(), &originals());
        assert_eq!(read, (originals(), false));
    }
    let nameless = r#"{"minReadySeconds":7,"paused":true}"#;
    assert_eq!(read_wanted(nameless, "r1", &knob_fields(), &originals()), (originals(), false));
    assert_eq!(read_wanted("no json", "r1", &knob_fields(), &originals()), (originals(), false));
}

#[test]
fn a_wish_for_no_min_ready_seconds_removes_it() {
    let note = NOTE.replace("\"minReadySeconds\":7", "\"minReadySeconds\":0");
    let (fields, _) = read_wanted(&note, "r1", &knob_fields(), &originals());
    assert_eq!(fields.min_ready_seconds, None);
}

#[test]
fn a_pause_by_hand_is_a_wish() {
    let note = NOTE.replace("{\"release\"", "{\"paused\":true,\"release\"");
    assert!(read_wanted(&note, "r1", &knob_fields(), &originals()).1);
}

#[test]
fn let_go_with_two_live_replica_sets_keeps_the_surge_at_zero() {
    let user = user(IntOrString::String("25%".into()), IntOrString::Int(0), None);
    let mut native = Native::held(10, &user);
    let mut dice = Dice(1);
    let aim = Aim { new_pods: 4, exact: true, user: &user, stable: "v1", tolerated: 0 };
    let bounds = Bounds { least_available: 10, most_pods: 13, most_new: 4 };
    play(&mut native, aim, &bounds, &mut dice);
    let write = give_back(&native.view(), &user, true, true).unwrap();
    native.write(&write);
    settle(&mut native);
    assert_eq!((native.size("v2"), native.size("v1")), (4, 6), "nothing moves");
    assert_eq!(native.fields.min_ready_seconds, None);
    assert_eq!(native.fields.max_surge, Some(IntOrString::Int(0)), "the one field that is not his");
    assert_eq!(native.fields.max_unavailable, Some(IntOrString::Int(1)), "not both at 0");
}

#[test]
fn tolerated_pods_need_not_be_ready() {
    let user = user(IntOrString::Int(3), IntOrString::Int(1), None);
    let mut native = Native::held(10, &user);
    let mut aim = Aim { new_pods: 3, exact: true, user: &user, stable: "v1", tolerated: 1 };
    let moved = |native: &mut Native, aim: Aim<'_>| {
        for _ in 0..20 {
            if let Motion::Act(write) = move_to(&native.view(), aim, native.now) {
                native.write(&write);
            }
            settle(native);
        }
        move_to(&native.view(), aim, native.now)
    };
    moved(&mut native, aim);
    native.ready_one(0);
    native.ready_one(0);
    assert_eq!(moved(&mut native, aim), Motion::Arrived);
    assert_eq!((native.size("v2"), native.size("v1")), (3, 7));
    aim.tolerated = 0;
    assert!(matches!(moved(&mut native, aim), Motion::Wait { .. }), "the third is not ready");
}
