//! The rest: paused, nothing moves, scaling keeps the share; and the way out of it.

use super::trace::{held, leaving, moving, on_the_real_one, replicas, resting};

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
