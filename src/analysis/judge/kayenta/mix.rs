//! Series of both arms to pairs, as Kayenta's MetricSetMixer does it.
//!
//! A series keeps the points that there are, in their order: a point that is missing inside is
//! absent and not NaN, so that the arms may lose their alignment. A whole series that is missing is
//! made of NaN, one for each step of the window. Series without labels stand for all of the other
//! arm's.

use std::collections::{BTreeMap, BTreeSet};

use super::SeriesPair;

/// One series of one arm.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaggedSeries {
    /// Its labels, without the metric's name.
    pub tags: BTreeMap<String, String>,
    /// Its values.
    pub values: Vec<f64>,
}

/// Why two arms cannot be paired.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{metric}: the baseline's series have the labels {control:?}, the canary's {experiment:?}; group \
     both by the same labels"
)]
pub struct MixError {
    /// The metric.
    pub metric: String,
    /// Labels of the baseline.
    pub control: BTreeSet<String>,
    /// Labels of the canary.
    pub experiment: BTreeSet<String>,
}

/// The pairs of one metric. `expected`: points of a window without gaps.
///
/// # Errors
/// When both arms have labels and not the same ones.
pub fn mix(
    metric: &str,
    control: Vec<TaggedSeries>,
    experiment: Vec<TaggedSeries>,
    expected: usize,
) -> Result<Vec<SeriesPair>, MixError> {
    let placeholder = |series: Vec<TaggedSeries>| match series.is_empty() {
        true => vec![TaggedSeries { tags: BTreeMap::new(), values: vec![f64::NAN; expected] }],
        false => series,
    };
    let (control, experiment) = (placeholder(control), placeholder(experiment));
    let labels = |series: &[TaggedSeries]| -> BTreeSet<String> {
        series.iter().flat_map(|one| one.tags.keys().cloned()).collect()
    };
    let (of_control, of_experiment) = (labels(&control), labels(&experiment));
    if !of_control.is_empty() && !of_experiment.is_empty() && of_control != of_experiment {
        let (control, experiment) = (of_control, of_experiment);
        return Err(MixError { metric: metric.to_owned(), control, experiment });
    }
    let tags = |series: &[TaggedSeries]| -> BTreeSet<BTreeMap<String, String>> {
        series.iter().map(|one| one.tags.clone()).collect()
    };
    let bare = |series: &[TaggedSeries]| series.iter().any(|one| one.tags.is_empty());
    let wanted = match (bare(&control), bare(&experiment)) {
        (true, false) => tags(&experiment),
        (false, true) => tags(&control),
        (true, true) | (false, false) => &tags(&control) | &tags(&experiment),
    };
    let values = |series: &[TaggedSeries], tags: &BTreeMap<String, String>| {
        let found = series.iter().find(|one| one.tags == *tags);
        // As many points as the arm's first series has, which is what Kayenta takes as the window.
        let length = series.first().map_or(0, |one| one.values.len());
        found.map_or_else(|| vec![f64::NAN; length], |one| one.values.clone())
    };
    let pair = |tags: BTreeMap<String, String>| SeriesPair {
        metric: metric.to_owned(),
        control: values(&control, &tags),
        experiment: values(&experiment, &tags),
        tags,
    };
    Ok(wanted.into_iter().map(pair).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(tags: &[(&str, &str)], values: &[f64]) -> TaggedSeries {
        let tags = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        TaggedSeries { tags, values: values.to_vec() }
    }

    /// Pairs as text, because NaN is not equal to itself.
    fn mixed(control: &[TaggedSeries], experiment: &[TaggedSeries]) -> Vec<String> {
        let pairs = mix("cpu", control.to_vec(), experiment.to_vec(), 4).unwrap();
        let text = |p: &SeriesPair| format!("{:?} {:?} {:?}", p.tags, p.control, p.experiment);
        pairs.iter().map(text).collect()
    }

    #[test]
    fn lists_are_paired_as_in_kayentas_own_suite() {
        let tag = [("tagName", "tagValue")];
        let cpu = series(&tag, &[1.0, 3.0, 5.0, 7.0]);
        let other = series(&tag, &[2.0, 4.0, 6.0, 8.0]);
        let text = r#"{"tagName": "tagValue"} [1.0, 3.0, 5.0, 7.0] [2.0, 4.0, 6.0, 8.0]"#;
        assert_eq!(mixed(std::slice::from_ref(&cpu), &[other]), [text]);
        let text = r#"{"tagName": "tagValue"} [1.0, 3.0, 5.0, 7.0] []"#;
        assert_eq!(mixed(std::slice::from_ref(&cpu), &[series(&tag, &[])]), [text]);
        // A series without labels holds the place of those with labels, and its values are not used.
        let bare = series(&[], &[70.0, 80.0, 90.0]);
        let text = r#"{"tagName": "tagValue"} [1.0, 3.0, 5.0, 7.0] [NaN, NaN, NaN]"#;
        assert_eq!(mixed(std::slice::from_ref(&cpu), std::slice::from_ref(&bare)), [text]);
        let text = r#"{"tagName": "tagValue"} [NaN, NaN, NaN] [1.0, 3.0, 5.0, 7.0]"#;
        assert_eq!(mixed(&[bare], &[cpu]), [text]);
    }

    #[test]
    fn an_arm_without_any_series_is_as_many_nan_as_the_window_has_steps() {
        let cpu = series(&[], &[1.0, 3.0]);
        assert_eq!(mixed(&[cpu], &[]), ["{} [1.0, 3.0] [NaN, NaN, NaN, NaN]"]);
        let none = "{} [NaN, NaN, NaN, NaN] [NaN, NaN, NaN, NaN]";
        assert_eq!(mixed(&[], &[]), [none]);
    }

    #[test]
    fn a_series_that_one_arm_lacks_is_paired_with_nan() {
        let (a, b) = (series(&[("zone", "a")], &[1.0, 2.0]), series(&[("zone", "b")], &[3.0]));
        assert_eq!(
            mixed(std::slice::from_ref(&a), &[b, a.clone()]),
            [r#"{"zone": "a"} [1.0, 2.0] [1.0, 2.0]"#, r#"{"zone": "b"} [NaN, NaN] [3.0]"#]
        );
    }

    #[test]
    fn different_labels_are_refused_with_both_sets() {
        let (a, b) = (series(&[("zone", "a")], &[1.0]), series(&[("pod", "b")], &[3.0]));
        let refused = mix("cpu", vec![a], vec![b], 4).unwrap_err().to_string();
        assert!(refused.contains("{\"zone\"}") && refused.contains("{\"pod\"}"), "{refused}");
    }
}
