//! The rest: paused, nothing moves, scaling keeps the share; and the way out of it.

use serde_json::json;

use super::trace::{Write, held, leaving, moving, on_the_real_one, replicas, resting, users};

#[tokio::test]
async fn scaling_at_rest_keeps_the_share() {
    let mut steps = vec![held("v2"), moving(0, 2), resting()];
    steps.extend([20, 4, 10].map(replicas));
    let Some(trace) = on_the_real_one("rest-scaling", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs()[2..], [(2, 8), (4, 16), (1, 3), (2, 8)]);
}

#[tokio::test]
async fn scaling_at_rest_keeps_the_share_after_a_surge_too() {
    let mut steps = vec![held("v2"), moving(2, 0), moving(0, 2), resting()];
    steps.extend([20, 4, 10].map(replicas));
    let Some(trace) = on_the_real_one("rest-scaling-after-surge", 10, &[], steps).await else {
        return;
    };
    assert_eq!(trace.pairs()[3..], [(2, 8), (4, 16), (1, 3), (2, 8)]);
}

#[tokio::test]
async fn leaving_the_rest_in_two_writes_is_exact() {
    let steps = vec![held("v2"), moving(0, 2), resting(), leaving(), moving(0, 4)];
    let Some(trace) = on_the_real_one("rest-leaving", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs()[2..], [(2, 8), (2, 8), (4, 6)]);
}

#[tokio::test]
async fn scaling_under_a_percentage_keeps_the_share() {
    let mut steps = vec![held("v2"), moving(0, "30%")];
    steps.extend([20, 10].map(replicas));
    let Some(trace) = on_the_real_one("knob-scaling", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs()[1..], [(3, 7), (6, 14), (3, 7)]);
}

#[tokio::test]
async fn scaling_under_a_number_does_not_keep_the_share() {
    let mut steps = vec![held("v2"), moving(6, 0), moving(0, 6)];
    steps.extend([40, 8].map(replicas));
    let Some(trace) = on_the_real_one("knob-scaling-number", 20, &[], steps).await else { return };
    assert_eq!(trace.pairs()[2..], [(6, 14), (9, 31), (6, 2)]);
}

#[tokio::test]
async fn scaled_to_nothing_at_rest_everything_comes_back_new() {
    let mut steps = vec![held("v2"), moving(0, 2), resting()];
    steps.extend([0, 10].map(replicas));
    let Some(trace) = on_the_real_one("rest-zero", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs()[2..], [(2, 8), (0, 0), (10, 0)]);
}

#[tokio::test]
async fn scaled_to_nothing_with_the_stable_template_put_back_everything_comes_back_old() {
    let steps = vec![
        held("v2"),
        moving(0, 2),
        resting(),
        replicas(0),
        held("v1"),
        replicas(10),
        held("v2"),
        leaving(),
        moving(0, 2),
    ];
    let Some(trace) = on_the_real_one("rest-zero-suspended", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs()[2..], [(2, 8), (0, 0), (0, 0), (0, 10), (0, 10), (0, 10), (2, 8)]);
}

/// From `new` of ten at rest down to one, and up to ten again.
async fn down_to_one(new: i32, up_again: Vec<(i32, i32)>) {
    let mut steps = vec![held("v2"), moving(0, new), resting()];
    steps.extend([1, 10].map(replicas));
    let name = format!("rest-one-{new}");
    let Some(trace) = on_the_real_one(&name, 10, &[], steps).await else { return };
    assert_eq!(trace.pairs()[3..], up_again);
}

#[tokio::test]
async fn scaled_to_one_at_rest_the_larger_share_is_all_that_comes_back() {
    down_to_one(4, vec![(0, 1), (0, 10)]).await;
    down_to_one(6, vec![(1, 0), (10, 0)]).await;
}

#[tokio::test]
async fn scaled_to_one_at_rest_with_equal_shares_everything_comes_back_new() {
    down_to_one(5, vec![(1, 0), (10, 0)]).await;
}

#[tokio::test]
async fn scaled_to_one_new_pod_the_stable_template_alone_does_not_bring_the_old_back() {
    let mut steps = vec![held("v2"), moving(0, 6), resting(), replicas(1), held("v1")];
    steps.push(replicas(10));
    let Some(trace) = on_the_real_one("rest-one-template", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs()[3..], [(1, 0), (1, 0), (10, 0)]);
}

#[tokio::test]
async fn scaled_to_one_new_pod_a_rollback_brings_the_old_back() {
    let mut steps = vec![held("v2"), moving(0, 6), resting(), replicas(1), held("v1")];
    steps.extend([users(false, "25%"), replicas(10)]);
    let Some(trace) = on_the_real_one("rest-one-rollback", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs()[3..], [(1, 0), (1, 0), (0, 1), (0, 10)]);
    assert_eq!(trace.steps[5].least_ready, 1, "surge first");
}

#[tokio::test]
async fn scaled_to_one_new_pod_under_the_knob_everything_comes_back_new_too() {
    let mut steps = vec![held("v2"), moving(0, "60%")];
    steps.extend([1, 10].map(replicas));
    let Some(trace) = on_the_real_one("knob-one", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs()[1..], [(6, 4), (1, 0), (10, 0)]);
}

#[tokio::test]
async fn an_old_pod_beside_the_only_new_one_is_taken_away_at_once() {
    let surge = Write::Spec(json!({"strategy": {"rollingUpdate": {"maxSurge": 1}}}));
    let mut steps = vec![held("v2"), moving(0, 5), resting(), replicas(1), surge];
    steps.extend([Write::Sized("v1".to_owned(), 1, 1), replicas(10)]);
    let Some(trace) = on_the_real_one("rest-one-more", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs()[3..], [(1, 0), (1, 0), (1, 0), (10, 0)]);
}
