//! Letting go in mid-release: the workload stays where it is, held by its own word.

use serde_json::json;

use super::trace::{Write, held, moving, on_the_real_one, resting, users};

fn paused(paused: bool) -> Write {
    Write::Spec(json!({"paused": paused}))
}

#[tokio::test]
async fn let_go_stays_where_it_is_and_a_resume_finishes_it() {
    let steps = vec![held("v2"), moving(0, 4), resting(), users(true, 0), paused(false)];
    let Some(trace) = on_the_real_one("let-go", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs()[2..], [(4, 6), (4, 6), (10, 0)]);
    assert!(trace.steps[3].sizes.is_empty());
    assert!(trace.steps[4].least_ready >= 8, "25 % of 10");
}

#[tokio::test]
async fn let_go_straight_from_the_knob_stays_where_it_is_too() {
    let steps = vec![held("v2"), moving(0, 4), users(true, 0)];
    let Some(trace) = on_the_real_one("let-go-moving", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs()[2], (4, 6));
    assert_eq!(trace.steps[2].rest.available["v2"], 4);
}

#[tokio::test]
async fn let_go_and_undone_by_the_user_goes_back() {
    let steps =
        vec![held("v2"), moving(0, 4), resting(), users(true, 0), held("v1"), paused(false)];
    let Some(trace) = on_the_real_one("let-go-undo", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs()[3..], [(4, 6), (4, 6), (0, 10)]);
    assert!(trace.steps[5].least_ready >= 8, "25 % of 10");
}

#[tokio::test]
async fn with_the_users_surge_the_native_controller_scales_up_while_paused() {
    let steps = vec![held("v2"), moving(0, 4), resting(), users(true, "25%")];
    let Some(trace) = on_the_real_one("let-go-surge", 10, &[], steps).await else { return };
    let (new, old) = trace.pairs()[3];
    assert_eq!(new + old, 13, "10 and 25 % of surge, rounded up");
    assert_eq!((new, old), (5, 8));
}
