//! Going all the way back, and finishing.

use serde_json::json;

use super::trace::{Write, held, moving, on_the_real_one, resting, users};

#[tokio::test]
async fn a_rollback_from_the_rest_with_the_users_strategy_keeps_his_budget() {
    for new in [4, 9] {
        let steps = vec![held("v2"), moving(0, new), resting(), held("v1"), users(false, "25%")];
        let name = format!("rollback-{new}");
        let Some(trace) = on_the_real_one(&name, 10, &[], steps).await else { return };
        assert_eq!(trace.pairs()[2..], [(new, 10 - new), (new, 10 - new), (0, 10)]);
        assert!(trace.steps[2..].iter().all(|step| step.least_ready >= 8), "25 % of 10");
        let end = &trace.steps[4].rest;
        assert_eq!(end.progressing.as_deref(), Some("NewReplicaSetAvailable"));
    }
}

#[tokio::test]
async fn a_rollback_of_broken_pods_loses_nothing_that_was_ready() {
    let steps = vec![held("v2"), moving(0, 4), resting(), held("v1"), users(false, "25%")];
    let trace = on_the_real_one("rollback-broken", 10, &["v2"], steps).await;
    let Some(trace) = trace else { return };
    assert_eq!(trace.pairs()[4], (0, 10));
    assert!(trace.steps[2..].iter().all(|step| step.least_ready >= 6), "the old six");
}

#[tokio::test]
async fn an_undo_under_the_knob_makes_every_stable_pod_unavailable_until_the_users_value_is_back() {
    let back = Write::Spec(json!({"minReadySeconds": 0, "progressDeadlineSeconds": 600}));
    let steps = vec![held("v2"), moving(0, 4), held("v1"), back];
    let Some(trace) = on_the_real_one("undo-under-knob", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs()[2..], [(4, 6), (4, 6)]);
    assert_eq!(trace.steps[2].rest.available["v1"], 0);
    assert_eq!(trace.steps[3].rest.available["v1"], 6);
}

#[tokio::test]
async fn finishing_gives_the_user_his_fields_and_moves_nothing() {
    let steps = vec![held("v2"), moving(3, 0), moving(0, 10), resting(), users(false, "25%")];
    let Some(trace) = on_the_real_one("finish", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs()[2..], [(10, 0), (10, 0), (10, 0)]);
    assert!(trace.steps[3..].iter().all(|step| step.sizes.is_empty()));
    assert_eq!(trace.steps[4].rest.progressing.as_deref(), Some("NewReplicaSetAvailable"));
}

#[tokio::test]
async fn finishing_from_all_new_under_the_knob_in_one_write_moves_nothing_either() {
    let steps = vec![held("v2"), moving(0, 10), users(false, "25%")];
    let Some(trace) = on_the_real_one("finish-in-one", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs()[1..], [(10, 0), (10, 0)]);
    assert!(trace.steps[2].sizes.is_empty());
}

#[tokio::test]
async fn the_users_fields_given_back_before_the_last_old_pods_go_take_none_that_he_needs() {
    let steps = vec![held("v2"), moving(0, 8), moving(2, 8), users(false, "25%")];
    let Some(trace) = on_the_real_one("finish-surged", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs()[1..], [(8, 2), (10, 2), (10, 0)]);
    assert_eq!(trace.steps[3].least_ready, 10);
    assert_eq!(trace.steps[3].rest.progressing.as_deref(), Some("NewReplicaSetAvailable"));
}
