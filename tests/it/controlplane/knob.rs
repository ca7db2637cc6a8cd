//! The knob: the native controller moves exactly k of n.

use super::trace::{held, moving, on_the_real_one, resting};

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
