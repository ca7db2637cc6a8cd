//! A third version in the middle of a release: the one in the middle has to go, not the stable one.

use serde_json::json;

use super::trace::{Write, held, marked, moving, on_the_real_one, resting};

#[tokio::test]
async fn from_the_rest_the_marked_second_version_becomes_the_third() {
    let steps = vec![
        held("v2"),
        moving(0, 4),
        resting(),
        held("v3"),
        marked("v2"),
        moving(0, 1),
        moving(0, 4),
        moving(0, 5),
    ];
    let Some(trace) = on_the_real_one("third-marked", 10, &[], steps).await else { return };
    assert_eq!(trace.triples()[3..], [(0, 4, 6), (0, 4, 6), (1, 3, 6), (4, 0, 6), (5, 0, 5)]);
}

#[tokio::test]
async fn from_the_rest_an_unmarked_second_version_costs_the_stable_one() {
    let steps = vec![held("v2"), moving(0, 4), resting(), held("v3"), moving(0, 4)];
    let Some(trace) = on_the_real_one("third-unmarked", 10, &[], steps).await else { return };
    assert_eq!(trace.triples()[3..], [(0, 4, 6), (4, 4, 2)]);
}

#[tokio::test]
async fn under_the_knob_the_second_version_is_marked_already() {
    let Write::Spec(mut spec) = held("v3") else { unreachable!("held writes a spec") };
    // What the hold does to a new template.
    spec["minReadySeconds"] = json!(0);
    let steps = vec![held("v2"), moving(0, 4), Write::Spec(spec), moving(0, 4), moving(0, 5)];
    let Some(trace) = on_the_real_one("third-moving", 10, &[], steps).await else { return };
    assert_eq!(trace.triples()[2..], [(0, 4, 6), (4, 0, 6), (5, 0, 5)]);
}

#[tokio::test]
async fn the_mark_goes_when_the_second_version_is_wanted_again() {
    let steps = vec![
        held("v2"),
        moving(0, 4),
        resting(),
        held("v3"),
        marked("v2"),
        moving(0, 2),
        resting(),
        held("v2"),
    ];
    let Some(trace) = on_the_real_one("third-and-back", 10, &[], steps).await else { return };
    assert_eq!(trace.triples()[4..], [(0, 4, 6), (2, 2, 6), (2, 2, 6), (2, 2, 6)]);
    assert_eq!(trace.steps[6].rest.available["v2"], 0, "still marked");
    assert_eq!(trace.steps[7].rest.available["v2"], 2, "the new one takes the Deployment's value");
}

/// Three pods of each of two versions and a broken one of the third, then back to the first, with not one
/// pod to spare.
fn back_with_a_broken_third(before: Option<Write>) -> Vec<Write> {
    let Write::Spec(mut stable) = held("v1") else { unreachable!("held writes a spec") };
    stable["minReadySeconds"] = json!(0);
    let strategy = json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    let open = Write::Spec(json!({"paused": false, "strategy": strategy}));
    let third = [held("v2"), moving(0, 3), resting(), held("v3"), marked("v2"), moving(1, 0)];
    third.into_iter().chain([Write::Spec(stable)]).chain(before).chain([open]).collect()
}

#[tokio::test]
async fn on_the_way_back_a_marked_pod_goes_where_a_broken_one_should() {
    let steps = back_with_a_broken_third(None);
    let Some(trace) = on_the_real_one("third-back", 6, &["v3"], steps).await else { return };
    assert_eq!(trace.triples()[5..7], [(1, 3, 3); 2]);
    assert_eq!(trace.steps[7].least_ready, 5);
}

#[tokio::test]
async fn on_the_way_back_nothing_is_lost_once_the_mark_is_gone() {
    let unmarked = Write::Set("v2".to_owned(), json!({"minReadySeconds": 0}));
    let steps = back_with_a_broken_third(Some(unmarked));
    let Some(trace) = on_the_real_one("third-back-unmarked", 6, &["v3"], steps).await else {
        return;
    };
    assert_eq!(trace.triples()[6..8], [(1, 3, 3); 2]);
    assert_eq!(trace.steps[8].least_ready, 6);
    assert_eq!(trace.triples()[8], (0, 0, 6));
}
