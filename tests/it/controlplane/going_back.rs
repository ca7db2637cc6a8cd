//! Going back inside a release, on the ReplicaSets.

use super::trace::{Write, held, leaving, moving, on_the_real_one, replicas, resting, scale};
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
    assert_eq!(trace.steps[3].least_ready, 9, "one is missing for a moment");
}

/// Where `new` of ten at rest end up after the writes, and on which way.
async fn from_rest(name: &str, new: i32, writes: Vec<Write>) -> Option<Vec<(i32, i32)>> {
    let mut steps = at(new);
    steps.push(resting());
    let first = steps.len();
    steps.extend(writes);
    let trace = on_the_real_one(name, 10, &[], steps).await?;
    Some((first..trace.steps.len()).flat_map(|step| trace.path(step)).collect())
}

#[tokio::test]
async fn at_rest_one_more_old_pod_is_taken_back_unless_two_fewer_are_old() {
    for (new, path) in [
        (2, vec![(2, 9), (2, 8)]),
        (4, vec![(4, 7), (4, 6)]),
        (5, vec![(5, 6), (5, 5)]),
        (6, vec![(6, 5), (5, 5)]),
        (9, vec![(9, 2), (8, 2)]),
    ] {
        let writes = vec![scale("v1", 10 - new + 1)];
        let took = from_rest(&format!("back-rest-old-{new}"), new, writes).await;
        let Some(took) = took else { return };
        assert_eq!(took, path);
    }
}

#[tokio::test]
async fn at_rest_one_less_new_pod_comes_back_unless_as_many_are_old() {
    for (new, path) in [
        (4, vec![(3, 6), (3, 7)]),
        (5, vec![(4, 5), (4, 6)]),
        (6, vec![(5, 4), (6, 4)]),
        (9, vec![(8, 1), (9, 1)]),
    ] {
        let writes = vec![scale("v2", new - 1)];
        let took = from_rest(&format!("back-rest-new-{new}"), new, writes).await;
        let Some(took) = took else { return };
        assert_eq!(took, path);
    }
}

#[tokio::test]
async fn from_the_rest_one_goes_back_under_the_knob_at_any_size_and_loses_nothing() {
    for new in [4, 5, 6, 9] {
        let writes = vec![
            leaving(),
            moving(0, new - 1),
            scale("v1", 11 - new),
            scale("v2", new - 1),
            resting(),
        ];
        let name = format!("back-from-rest-{new}");
        let mut steps = at(new);
        steps.push(resting());
        steps.extend(writes);
        let Some(trace) = on_the_real_one(&name, 10, &[], steps).await else { return };
        let (old, left) = (10 - new, new - 1);
        assert_eq!(
            trace.pairs()[2..],
            [(new, old), (new, old), (new, old), (new, old + 1), (left, old + 1), (left, old + 1)]
        );
        assert!(trace.steps[2..].iter().all(|step| step.least_ready == 10));
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
        assert_eq!(trace.pairs()[1..], [(1, n - 1), (2, n - 1), (2, n), (2, n), (0, n), (0, n)]);
        let least = usize::try_from(n).expect("few pods");
        assert!(trace.steps[2..].iter().all(|step| step.least_ready >= least));
    }
}

/// All ten are new and at rest, the Deployment is scaled to eight, and the first old pod comes back.
fn back_from_all(first: Write) -> Vec<Write> {
    let all = [held("v2"), moving(0, 10), resting(), replicas(8), leaving(), moving(0, 7)];
    all.into_iter().chain([first, scale("v2", 7)]).collect()
}

#[tokio::test]
async fn an_old_set_that_had_no_pods_in_a_scale_event_loses_its_new_pod_at_once() {
    let steps = back_from_all(scale("v1", 1));
    let Some(trace) = on_the_real_one("back-stale", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs()[3..6], [(8, 0); 3]);
    assert_eq!(trace.path(6), [(8, 1), (7, 1)], "a new pod goes before the old one is ready");
    assert_eq!(trace.steps[6].least_ready, 7);
}

#[tokio::test]
async fn with_the_deployments_replicas_noted_on_it_nothing_is_lost() {
    let steps = back_from_all(Write::Sized("v1".to_owned(), 1, 8));
    let Some(trace) = on_the_real_one("back-sized", 10, &[], steps).await else { return };
    assert_eq!(trace.pairs()[5..], [(8, 0), (8, 1), (7, 1)]);
    assert!(trace.steps[6..].iter().all(|step| step.least_ready == 8));
}
