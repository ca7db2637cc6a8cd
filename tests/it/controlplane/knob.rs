//! The knob: the native controller moves exactly k of n.

use super::trace::{Write, held, moving, on_the_real_one, resting, scale};

#[tokio::test]
async fn three_of_ten_with_a_surge_of_one_move_pod_by_pod() {
    let steps = vec![held("v2"), moving(1, 0), moving(1, 1), moving(1, 2), moving(0, 3)];
    let Some(trace) = on_the_real_one("knob-3-of-10-surge-1", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs(), [(0, 10), (1, 10), (2, 9), (3, 8), (3, 7)]);
}

#[tokio::test]
async fn surge_first_takes_two_writes_a_step() {
    let steps = vec![held("v2"), moving(3, 0), moving(0, 3), moving(3, 3), moving(0, 6)];
    let Some(trace) = on_the_real_one("knob-surge-first", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs(), [(0, 10), (3, 10), (3, 7), (6, 7), (6, 4)]);
}

#[tokio::test]
async fn a_percentage_does_the_same() {
    let steps = vec![held("v2"), moving("30%", 0), moving(0, "30%"), moving("100%", "30%")];
    let Some(trace) = on_the_real_one("knob-percent", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs(), [(0, 10), (3, 10), (3, 7), (10, 7)]);
}

#[tokio::test]
async fn without_surge_the_old_go_first_and_k_is_exact() {
    let steps = vec![held("v2"), moving(0, 3), moving(0, 10)];
    let Some(trace) = on_the_real_one("knob-no-surge", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs(), [(0, 10), (3, 7), (10, 0)]);
}

#[tokio::test]
async fn nothing_goes_on_when_the_new_pods_never_get_ready() {
    let steps = vec![held("v2"), moving(1, 0), moving(1, 1), resting()];
    let trace = on_the_real_one("knob-broken", 10, &["v2"], steps).await;
    let Some(trace) = trace else { return };
    assert_eq!(trace.pairs(), [(0, 10), (1, 10), (2, 9), (2, 8)]);
}

#[tokio::test]
async fn pods_left_over_at_the_rest_are_taken_from_the_new_ones_beforehand() {
    // Under the knob the new ReplicaSet may shrink only once no surge is left to fill it again.
    let steps =
        vec![held("v2"), moving(1, 0), moving(1, 1), moving(0, 1), scale("v2", 1), resting()];
    let trace = on_the_real_one("knob-broken-surplus", 10, &["v2"], steps).await;
    let Some(trace) = trace else { return };
    assert_eq!(trace.pairs()[2..], [(2, 9), (2, 9), (1, 9), (1, 9)]);
    assert!(trace.steps[3..].iter().all(|step| step.least_ready == 9));
}

#[tokio::test]
async fn an_old_pod_that_is_not_ready_any_more_moves_nothing() {
    let unready = || Write::Unready("v1".to_owned());
    let steps = vec![held("v2"), moving(0, 3), unready(), resting(), unready()];
    let Some(trace) = on_the_real_one("knob-unready", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs()[1..], [(3, 7), (3, 7), (3, 7), (3, 7)]);
    assert!(trace.steps[2].sizes.is_empty() && trace.steps[4].sizes.is_empty());
}
