//! The knob against a small model of the native Deployment controller, and its tables.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::deployment::{give_back, put_back, read_wanted, rest};
use super::knob::{Aim, Knob, KnobState, knob_value, move_to, next_knob};
use super::view::{budget, scaled};
use super::{Motion, NEVER_READY_SECONDS};
use crate::api::KnobFields;
use native::{Native, template, user};

pub(crate) mod native;

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

/// One event, whichever comes. True when the move has arrived.
fn event(native: &mut Native, aim: Aim<'_>, bounds: &Bounds, dice: &mut Dice) -> bool {
    match dice.roll(7) {
        0 => native.sync(),
        1 | 2 => {
            let index = dice.roll(native.sets.len());
            native.sync_set(index);
        }
        3 => native.ready_one(dice.roll(100)),
        4 => native.now += SignedDuration::from_secs(1),
        _ => match move_to(&native.view(), aim, native.now) {
            Motion::Arrived => return true,
            Motion::Act(write) => native.write(&write),
            Motion::Wait { .. } => {}
        },
    }
    let available = native.available(aim.user.min_ready_seconds.unwrap_or(0));
    assert!(available >= bounds.least_available, "{available}: {native:?}");
    assert!(native.total() <= bounds.most_pods, "{native:?}");
    assert!(native.size("v2") <= bounds.most_new, "{native:?}");
    false
}

/// Plays events in a random order until the move has arrived. Returns the Deployment writes.
fn play(native: &mut Native, aim: Aim<'_>, bounds: &Bounds, dice: &mut Dice) -> usize {
    let before = native.writes;
    for _ in 0..20_000 {
        if event(native, aim, bounds, dice) {
            return native.writes - before;
        }
    }
    panic!("does not arrive: {:?} {native:?}", move_to(&native.view(), aim, native.now));
}

/// A step of so many per cent, back as well as forth.
fn share_of(share: i32, n: i32, user: &KnobFields) -> Aim<'_> {
    let new_pods = (share * n + 99) / 100;
    Aim { new_pods, exact: true, user, stable: "v1", tolerated: 0, ends: new_pods == n }
}

/// A workload after so many events on the way to `aim`, with what must hold from there on.
fn on_the_way(aim: Aim<'_>, n: i32, events: usize, seed: u64) -> (Native, Bounds, Dice) {
    let (surge, unavailable) = budget(aim.user, n);
    let bounds =
        Bounds { least_available: n - unavailable, most_pods: n + surge.max(1), most_new: n };
    let (mut native, mut dice) = (Native::held(n, aim.user), Dice(seed));
    for _ in 0..events {
        event(&mut native, aim, &bounds, &mut dice);
    }
    (native, bounds, dice)
}

/// Lets the controller write until it waits; before and after each of its writes somebody pauses, as the
/// policy does for a third version, or lets go.
fn pause_at_every_write(mut native: Native, aim: Aim<'_>, least: i32) -> Result<(), TestCaseError> {
    for _ in 0..200 {
        settle(&mut native);
        pause(&native, aim, least)?;
        let Motion::Act(write) = move_to(&native.view(), aim, native.now) else { return Ok(()) };
        native.write(&write);
        pause(&native, aim, least)?;
    }
    Err(TestCaseError::fail(format!("writes without end: {native:?}")))
}

/// A pause, and a let-go, take no pod that the budget needs.
fn pause(native: &Native, aim: Aim<'_>, least: i32) -> Result<(), TestCaseError> {
    let mut let_go = native.clone();
    let two = let_go.view().active().count() > 1;
    if let Some(write) = give_back(&let_go.view(), aim.user, true, two) {
        let_go.write(&write);
    }
    let mut paused = native.clone();
    paused.fields.paused = true;
    for mut after in [paused, let_go] {
        settle(&mut after);
        let available = after.available(aim.user.min_ready_seconds.unwrap_or(0));
        prop_assert!(available >= least, "{available}: {native:?} became {after:?}");
    }
    Ok(())
}

#[test]
fn a_third_version_while_pods_that_never_got_ready_go_back_takes_no_stable_pod() {
    let user = user(IntOrString::Int(2), IntOrString::Int(2), None);
    let mut native = Native::held(8, &user);
    let mut aim =
        Aim { new_pods: 8, exact: true, user: &user, stable: "v1", tolerated: 0, ends: false };
    let write = |native: &mut Native, aim: Aim<'_>| {
        let made = move_to(&native.view(), aim, native.now);
        if let Motion::Act(write) = &made {
            native.write(write);
            settle(native);
        }
        matches!(made, Motion::Act(_))
    };
    while write(&mut native, aim) {}
    assert_eq!((native.size("v2"), native.size("v1")), (4, 6));
    aim.new_pods = 3;
    for _ in 0..10 {
        write(&mut native, aim);
    }
    assert_eq!((native.size("v2"), native.size("v1")), (3, 7));
    pause_at_every_write(native, aim, 6).unwrap();
}

/// The surge was written away before the pod that needed it: who paused in between took a stable pod.
#[test]
fn a_pause_while_a_pod_that_never_got_ready_goes_back_takes_no_stable_pod() {
    let user = user(IntOrString::Int(2), IntOrString::Int(0), None);
    for back in [0, 1] {
        let mut native = Native::held(10, &user);
        let mut aim =
            Aim { new_pods: 4, exact: true, user: &user, stable: "v1", tolerated: 0, ends: false };
        while let Motion::Act(write) = move_to(&native.view(), aim, native.now) {
            native.write(&write);
            settle(&mut native);
        }
        assert_eq!((native.size("v2"), native.size("v1")), (2, 10), "neither gets ready");
        aim.new_pods = back;
        for _ in 0..20 {
            pause_at_every_write(native.clone(), aim, 10).unwrap();
            if let Motion::Act(write) = move_to(&native.view(), aim, native.now) {
                native.write(&write);
            }
            settle(&mut native);
            let now = native.now;
            native.sets[0].pods.iter_mut().for_each(|pod| *pod = pod.or(Some(now)));
        }
        assert_eq!((native.size("v2"), native.size("v1")), (back, 10), "all that serve stay");
    }
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
            let aim = share_of(share, n, &user);
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
    fn a_move_that_is_turned_back_half_way_takes_no_stable_pod_beyond_the_users_budget(
        (n, user) in world(),
        to in 1..=100_i32,
        back in 1..=100_i32,
        events in 1..60_usize,
        seed in any::<u64>(),
    ) {
        let aim = |share: i32| share_of(share, n, &user);
        let (mut native, bounds, mut dice) = on_the_way(aim(to), n, events, seed);
        if n > 1 {
            play(&mut native, aim(back), &bounds, &mut dice);
            prop_assert_eq!(native.size("v2"), aim(back).new_pods);
            prop_assert_eq!(native.total(), n);
        }
    }

    #[test]
    fn a_pause_between_any_two_writes_takes_no_stable_pod_beyond_the_users_budget(
        (n, user) in world(),
        to in 1..=100_i32,
        back in 1..=100_i32,
        events in 1..60_usize,
        later in 0..60_usize,
        seed in any::<u64>(),
    ) {
        let aim = |share: i32| share_of(share, n, &user);
        let (mut native, bounds, mut dice) = on_the_way(aim(to), n, events, seed);
        if n > 1 {
            for _ in 0..later {
                event(&mut native, aim(back), &bounds, &mut dice);
            }
            pause_at_every_write(native, aim(back), bounds.least_available)?;
        }
    }

    #[test]
    fn a_rollback_from_anywhere_keeps_the_users_budget(
        (n, user) in world(), share in 1..=100_i32, seed in any::<u64>(),
    ) {
        let mut native = Native::held(n, &user);
        let mut dice = Dice(seed);
        let (surge, unavailable) = budget(&user, n);
        let k = (share * n + 99) / 100;
        let aim = share_of(share, n, &user);
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

#[test]
fn new_pods_that_are_not_ready_take_no_stable_pod_when_the_knob_begins_anew() {
    // Three were added by surge, then a pause took the knob away.
    let begun = |available, tolerated| {
        let (n, k, user_surge, user_unavailable) = (10, 5, 3, 0);
        let (new, set) = (3, None);
        next_knob(KnobState { n, k, new, available, tolerated, user_surge, user_unavailable, set })
    };
    assert_eq!(begun(0, 0), Knob { unavailable: 0, surge: 3 });
    assert_eq!(begun(1, 0), Knob { unavailable: 1, surge: 3 });
    assert_eq!(begun(3, 0), Knob { unavailable: 3, surge: 2 });
    assert_eq!(begun(2, 1), Knob { unavailable: 3, surge: 2 }, "one need not be ready");
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
    let aim =
        Aim { new_pods: 4, exact: true, user: &user, stable: "v1", tolerated: 0, ends: false };
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

/// How the last movement of 10 pods goes: the sizes of both versions and the fields.
fn last_move(native: &mut Native, aim: Aim<'_>) -> (i32, i32) {
    for _ in 0..20 {
        if let Motion::Act(write) = move_to(&native.view(), aim, native.now) {
            native.write(&write);
        }
        settle(native);
    }
    (native.size("v2"), native.size("v1"))
}

#[test]
fn the_last_old_pods_go_by_the_users_own_strategy_once_every_new_pod_is_available() {
    let user = user(IntOrString::Int(4), IntOrString::Int(0), Some(5));
    let mut native = Native::held(4, &user);
    let aim = share_of(100, 4, &user);
    assert_eq!(last_move(&mut native, aim), (4, 4), "new pods first");
    (0..4).for_each(|_| native.ready_one(0));
    assert_eq!(last_move(&mut native, aim), (4, 4), "not available by the user's minReadySeconds");
    assert_ne!(native.fields, user);
    native.now += SignedDuration::from_secs(5);
    assert_eq!(last_move(&mut native, aim), (4, 0));
    assert_eq!(native.fields, user);
    assert_eq!(native.writes, 2, "the surge, the fields");
    assert_eq!(move_to(&native.view(), aim, native.now), Motion::Arrived);
}

#[test]
fn a_new_pod_that_fails_after_the_fields_were_given_back_keeps_the_old_pods_that_the_user_needs() {
    let user = user(IntOrString::Int(2), IntOrString::Int(0), None);
    let mut native = Native::held(2, &user);
    let aim = share_of(100, 2, &user);
    last_move(&mut native, aim);
    (0..2).for_each(|_| native.ready_one(0));
    let Motion::Act(write) = move_to(&native.view(), aim, native.now) else { panic!() };
    native.write(&write);
    assert_eq!(native.fields, user);
    native.sets.iter_mut().find(|set| set.version == "v2").unwrap().pods[0] = None;
    assert_eq!(last_move(&mut native, aim), (2, 1));
    assert!(matches!(move_to(&native.view(), aim, native.now), Motion::Wait { .. }));
    assert_eq!(native.fields, user, "nobody turns the knob again");
    native.ready_one(0);
    assert_eq!(last_move(&mut native, aim), (2, 0));
}

#[test]
fn old_pods_go_by_the_knob_where_new_pods_that_are_tolerated_never_get_ready() {
    let user = user(IntOrString::Int(4), IntOrString::Int(0), None);
    let mut native = Native::held(4, &user);
    let aim = Aim { tolerated: 1, ..share_of(100, 4, &user) };
    last_move(&mut native, aim);
    (0..3).for_each(|_| native.ready_one(0));
    assert_eq!(last_move(&mut native, aim), (4, 0));
    assert_eq!(move_to(&native.view(), aim, native.now), Motion::Arrived);
    let write = give_back(&native.view(), &user, false, false).expect("the knob is set");
    native.write(&write);
    settle(&mut native);
    assert_eq!(move_to(&native.view(), aim, native.now), Motion::Arrived);
}

#[test]
fn a_user_who_paused_his_deployment_before_gets_his_last_pods_all_the_same() {
    let own = user(IntOrString::Int(2), IntOrString::Int(0), None);
    let own = KnobFields { paused: true, ..own };
    let mut native = Native::held(2, &own);
    let aim = share_of(100, 2, &own);
    last_move(&mut native, aim);
    (0..2).for_each(|_| native.ready_one(0));
    assert_eq!(last_move(&mut native, aim), (2, 0));
}

#[test]
fn tolerated_pods_need_not_be_ready() {
    let user = user(IntOrString::Int(3), IntOrString::Int(1), None);
    let mut native = Native::held(10, &user);
    let mut aim =
        Aim { new_pods: 3, exact: true, user: &user, stable: "v1", tolerated: 1, ends: false };
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
