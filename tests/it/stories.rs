//! The scenarios as stories: the same files on the cluster in the binary and on the real control plane,
//! there with the controller as a process of its own and in real time; once with pods that are ready at
//! once, once with slow ones. Every change of every object is checked on both, and ReplicaSets go through
//! the same sizes. Where the outcomes differ, `sim` is wrong.

mod book;
pub mod by_hand;
pub mod ground;
mod memory;
mod record;
mod script;
mod timeline;
mod wishes;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use futures::StreamExt;

use crate::controlplane::harness::shared;
use ground::{Ground, Plot};
use memory::Memory;
use script::{Outcome, Pods, Script, folder, play};

/// Stories that run on `sim` alone, each with the reason.
const SIM_ALONE: [(&str, &str); 14] = [
    (
        "provided_missing_provider_holds_until_it_appears",
        "its provider has an address of sim's own",
    ),
    ("provided_background_without_data_ends_no_step", "its provider has an address of sim's own"),
    ("compared_equal_is_promoted_once_proven", "ten minutes of counters decide it: virtual time"),
    ("compared_more_errors_are_rolled_back", "four minutes of counters decide it: virtual time"),
    ("windowed_waits_for_each_window", WALL),
    ("windowed_approve_goes_on_outside", WALL),
    ("windowed_rolls_back_outside", WALL),
    ("frozen_holds_until_its_end", WALL),
    ("kayenta_good_is_promoted_by_the_last_score", "three judgements a minute apart: virtual time"),
    ("kayenta_more_errors_are_rolled_back", "three judgements a minute apart: virtual time"),
    ("hooked_asks_around_every_step", SCRIPT),
    ("hooked_hanging_hook_delays_no_rollback", SCRIPT),
    ("hooked_refusal_goes_back", SCRIPT),
    ("hooked_slow_hook_is_overruled_by_a_person", SCRIPT),
];
const SCRIPT: &str = "hooks answer by script; real servers are in hooks.rs";
const WALL: &str = "the hour of the day decides it: virtual time begins on 1 January";
/// Scenarios that are no stories, each with the reason: they are played in virtual time.
const NO_STORIES: [(&str, &str); 3] = [
    ("shared_rule_is_split_by_one_release_after_the_other", TWO),
    ("renamed_workload_is_let_go_and_the_other_one_gated", TWO),
    ("plain_rollout_made_while_an_update_is_under_way", WITHIN),
];
const TWO: &str = "two workloads with two releases, and a story follows one";
const WITHIN: &str = "it ends within a release, and a story ends with the user's own objects";
/// Stories in which the sizes on the way may differ, each with the reason. They end at the same sizes.
const ON_THE_WAY: [(&str, &str); 4] = [
    ("plain_scaled_to_one_and_back", SCALED_TO_ONE),
    ("plain_scaled_to_one_and_retried", SCALED_TO_ONE),
    (
        "routed_scaled_while_traffic_moves",
        "in how many syncs the native controller answers a scale event while it moves is its own affair",
    ),
    (
        "background_errors_are_rolled_back",
        "a measurement ends it, wherever the pods have come to by then",
    ),
];
const SCALED_TO_ONE: &str = "scaling leaves one pod, of the new version, for a moment: whether the Rollout or the \
     ReplicaSet is heard of first says if that size was a stay";
/// Times that a story is played on the real control plane until it has the sizes that it had on `sim`. Which
/// of two writers the native controller hears first is chance there, and one of the orders on `sim`; that the
/// order of `sim` is none of the real ones shows by every play.
const PLAYS: usize = 3;
/// Stories at the same time on the real control plane: most of the time they wait.
const TOGETHER: usize = 16;

/// The stories' names; `STORY=name,name` chooses some, by parts of their names.
fn names() -> Vec<String> {
    let only = std::env::var("STORY").ok();
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "scenario"))
        .map(|p| p.file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|n| only.as_ref().is_none_or(|o| o.split(',').any(|part| n.contains(part))))
        .collect();
    names.sort();
    names
}

/// Each story with both kinds of pods; where the hour decides, slow pods would only be too late for it.
fn casts() -> Vec<(String, Pods)> {
    let both = |name: String| [(name.clone(), Pods::Quick), (name, Pods::Slow)];
    let late = |name: &str| SIM_ALONE.iter().any(|(at, why)| *at == name && *why == WALL);
    let is_story = |name: &String| NO_STORIES.iter().all(|(no, _)| no != name);
    let casts = names().into_iter().filter(is_story).flat_map(both);
    casts.filter(|(name, pods)| !(matches!(pods, Pods::Slow) && late(name))).collect()
}

/// Whether a story had the same sizes on both clusters.
fn same_sizes(name: &str, real: &Outcome, sim: &Outcome) -> bool {
    if ON_THE_WAY.iter().any(|(at, _)| *at == name) {
        let last = |outcome: &Outcome| -> Vec<_> {
            outcome.sizes.iter().map(|(of, sizes)| (of.clone(), sizes.last().copied())).collect()
        };
        return last(real) == last(sim);
    }
    real.sizes == sim.sizes
}

async fn on_the_real_one(ground: Arc<Ground>, name: &str, pods: Pods, sim: &Outcome) -> Outcome {
    let mut plays = 1;
    loop {
        let outcome = play_on_the_real_one(&ground, name, pods, sim, plays).await;
        if !outcome.bad.is_empty() || same_sizes(name, &outcome, sim) || plays == PLAYS {
            return outcome;
        }
        let (pods, sizes) = (pods.word(), &outcome.sizes);
        println!("{name} with {pods} pods: play {plays}: other sizes: {sizes:?}");
        plays += 1;
    }
}

async fn play_on_the_real_one(
    ground: &Arc<Ground>,
    name: &str,
    pods: Pods,
    sim: &Outcome,
    nth: usize,
) -> Outcome {
    let script = Script::read(name, pods);
    let namespace = format!("{}-{}-{nth}", name.replace('_', "-"), pods.word());
    let mut plot = Plot::new(ground.clone(), &namespace).await;
    plot.furnish(&script).await;
    plot.start();
    play(&mut plot, &script, Some(&sim.stands)).await
}

async fn on_sim(name: &str, pods: Pods) -> Outcome {
    let script = Script::read(name, pods);
    play(&mut Memory::new(&script), &script, None).await
}

type All = BTreeMap<(String, &'static str), Outcome>;

fn on_sim_alone(casts: impl Iterator<Item = (String, Pods)>) -> All {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    casts
        .map(|(name, pods)| {
            let outcome = runtime.block_on(on_sim(&name, pods));
            ((name, pods.word()), outcome)
        })
        .collect()
}

/// Before anything runs on the real one: what plays in real time wants the machine to itself, and to know
/// where a story stood.
fn all_on_sim() -> All {
    let half = |at: usize| casts().into_iter().skip(at).step_by(2);
    std::thread::scope(|scope| {
        let other = scope.spawn(move || on_sim_alone(half(1)));
        let mut all = on_sim_alone(half(0));
        all.extend(other.join().unwrap());
        all
    })
}

async fn all_on_the_real_one(ground: Arc<Ground>, sim: &All) -> All {
    let alone = |name: &str| SIM_ALONE.iter().any(|(alone, _)| *alone == name);
    let casts = casts().into_iter().map(|(name, pods)| ((name, pods.word()), pods));
    let playing = casts.filter(|((name, _), _)| !alone(name)).map(|(cast, pods)| {
        let ground = ground.clone();
        async move {
            let outcome = on_the_real_one(ground, &cast.0, pods, &sim[&cast]).await;
            if !outcome.unpinned.is_empty() {
                println!("{cast:?}: not where it stood on sim: {:?}", outcome.unpinned);
            }
            (cast, outcome)
        }
    });
    futures::stream::iter(playing).buffer_unordered(TOGETHER).collect().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_story_ends_the_same_on_both_clusters() {
    let sim = std::thread::spawn(all_on_sim).join().unwrap();
    let real = match shared() {
        Some(plane) => {
            let ground = Ground::real(plane).await;
            Some(all_on_the_real_one(Arc::new(ground), &sim).await)
        }
        None => None,
    };
    let mut bad = String::new();
    for ((name, pods), outcome) in &sim {
        if !outcome.bad.is_empty() {
            writeln!(bad, "== {name} with {pods} pods on sim\n{}", outcome.bad).unwrap();
        }
        let Some(real) = &real else { continue };
        match real.get(&(name.clone(), *pods)) {
            None => {
                assert!(SIM_ALONE.iter().any(|(alone, _)| alone == name), "{name} was not played")
            }
            Some(real) if !real.bad.is_empty() => {
                let (text, timeline) = (&real.bad, &real.timeline);
                writeln!(bad, "== {name} with {pods} pods on the real one\n{text}{timeline}")
                    .unwrap();
            }
            Some(real) if !same_sizes(name, real, outcome) => {
                writeln!(bad, "== {name} with {pods} pods: other sizes").unwrap();
                for (at, outcome) in [("the real one", real), ("sim", outcome)] {
                    writeln!(bad, "{:?} on {at}\n{}", outcome.sizes, outcome.timeline).unwrap();
                }
            }
            Some(_) => {}
        }
    }
    let changes = |all: &BTreeMap<_, Outcome>| all.values().map(|o| o.changes).sum::<usize>();
    println!("{} stories played on sim, {} changes checked", sim.len(), changes(&sim));
    if let Some(real) = &real {
        println!(
            "{} stories played on the real control plane, {} changes checked",
            real.len(),
            changes(real)
        );
    }
    say_exceptions();
    assert!(bad.is_empty(), "{bad}");
}

fn say_exceptions() {
    let all: [(&str, &[(&str, &str)]); 3] = [
        ("on sim alone", &SIM_ALONE),
        ("no story", &NO_STORIES),
        ("other sizes on the way", &ON_THE_WAY),
    ];
    for (what, stories) in all {
        for (name, reason) in stories {
            println!("{what}: {name}: {reason}");
        }
    }
}
