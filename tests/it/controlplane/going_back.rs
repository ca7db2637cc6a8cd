//! Going back inside a release, on the ReplicaSets.

use super::trace::{Write, held, leaving, moving, on_the_real_one, resting, scale};
use serde_json::json;

/// `new` of ten under the knob.
fn at(new: i32) -> Vec<Write> {
    vec![held("v2"), moving(0, new)]
}

#[tokio::test]
async fn under_the_knob_old_plus_one_then_new_minus_one_goes_back_at_any_size() {
    for new in [4, 6, 9, 2] {
        let mut steps = at(new);
        for left in (1..new).rev() {
            steps.extend([moving(0, left), scale("v1", 10 - left), scale("v2", left)]);
        }
        let name = format!("back-knob-{new}");
        let Some(trace) = on_the_real_one(&name, 10, &[], steps).await else { return };
        let mut expected = vec![(0, 10), (new, 10 - new)];
        for left in (1..new).rev() {
            let old = 10 - left;
            expected.extend([(left + 1, old - 1), (left + 1, old), (left, old)]);
        }
        assert_eq!(trace.pairs(), expected);
    }
}

#[tokio::test]
async fn under_the_knob_several_pods_go_back_at_once() {
    let mut steps = at(6);
    steps.extend([moving(0, 2), scale("v1", 8), scale("v2", 2)]);
    let Some(trace) = on_the_real_one("back-knob-many", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs()[1..], [(6, 4), (6, 4), (6, 8), (2, 8)]);
}

#[tokio::test]
async fn the_last_new_pod_goes_with_a_pause() {
    let mut steps = at(1);
    steps.extend([resting(), scale("v2", 0)]);
    let Some(trace) = on_the_real_one("back-last", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs()[1..], [(1, 9), (1, 9), (0, 10)]);
}

#[tokio::test]
async fn at_rest_old_plus_one_then_new_minus_one() {
    for new in [4, 6, 9, 5, 2] {
        let mut steps = at(new);
        steps.extend([resting(), scale("v1", 10 - new + 1), scale("v2", new - 1)]);
        let name = format!("back-rest-{new}");
        let Some(trace) = on_the_real_one(&name, 10, &[], steps).await else { return };
        println!("{name}: {:?} {:?} {:?}", trace.pairs(), trace.path(3), trace.path(4));
    }
}

#[tokio::test]
async fn at_rest_new_minus_one_alone() {
    for new in [4, 5, 6, 9] {
        let mut steps = at(new);
        steps.extend([resting(), scale("v2", new - 1)]);
        let name = format!("back-rest-alone-{new}");
        let Some(trace) = on_the_real_one(&name, 10, &[], steps).await else { return };
        println!("{name}: {:?} {:?}", trace.pairs(), trace.path(3));
    }
}

#[tokio::test]
async fn the_last_new_pod_goes_without_a_loss_when_one_more_may_surge() {
    for n in [2, 10] {
        let steps = vec![
            held("v2"),
            moving(0, 1),
            moving(1, 0),
            scale("v1", n),
            Write::Spec(json!({"paused": true, "strategy": {"rollingUpdate": {"maxSurge": 2}}})),
            scale("v2", 0),
            resting(),
        ];
        let name = format!("back-last-no-loss-{n}");
        let Some(trace) = on_the_real_one(&name, n, &[], steps).await else { return };
        println!("{name}: {:?}", trace.pairs());
    }
    let _ = leaving();
}
