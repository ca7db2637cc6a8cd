//! The language: the corpus of conditions seen in the field, and what is refused.

use super::*;

fn holds(text: &str, sample: &Sample) -> Result<bool, ConditionError> {
    Condition::compile(text)?.holds(sample)
}

fn series(values: &[f64]) -> Sample {
    Sample::from_series(values.to_vec())
}

#[test]
fn conditions_of_the_field_mean_what_they_mean_in_argo() {
    let (low, high, nan) = (Sample::Value(0.5), Sample::Value(0.99), Sample::Value(f64::NAN));
    let infinite = Sample::Value(f64::INFINITY);
    let pair = series(&[10.0, 11.0]);
    for (text, sample, expected) in [
        ("result >= 0.95", &high, true),
        ("result >= 0.95", &low, false),
        ("result < 0.95", &nan, false),
        ("result >= 0.95 || isNaN(result)", &nan, true),
        ("isNaN(result) || result >= 0.95", &low, false),
        ("isInf(result)", &infinite, true),
        ("result >= 0.9", &infinite, true),
        ("asInt(result) > 0", &Sample::Value(1.123), true),
        ("asFloat(result) > 1.1", &Sample::Value(1.2), true),
        ("result == 10", &Sample::Value(10.0), true),
        ("10 in result", &pair, true),
        ("12 in result", &pair, false),
        ("10.000000 not in result", &pair, false),
        ("len(result) != 2", &pair, false),
        ("len(result) == 2 and result[1] < 20", &pair, true),
        ("result[0] <= 0.01", &series(&[0.01]), true),
        ("result[1] <  20", &pair, true),
        ("len(result) == 0 || result[0] >= 0.95", &Sample::Empty, true),
        ("len(result) > 0 && result[0] >= 0.95", &Sample::Empty, false),
        ("all(result, # < 1000)", &pair, true),
        ("all(result, {# < 11})", &pair, false),
        ("any(result, {# > 10})", &pair, true),
        ("none(result, {# > 11})", &pair, true),
        ("max(result) < 11.5", &pair, true),
        ("sum(result) == 21", &pair, true),
        ("mean(result) == 10.5", &pair, true),
        ("default(result, 0) < 5", &Sample::Empty, true),
        ("default(result, 7) < 5", &Sample::Empty, false),
        ("default(result, 7) > 5", &low, false),
        ("isNil(result)", &Sample::Empty, true),
        ("true", &low, true),
        ("false", &low, false),
        ("result > 0.4 ? true : false", &low, true),
        ("let x = result * 100; x > 40", &low, true),
        ("!(result > 0.4)", &low, false),
        ("not (result > 0.4)", &low, false),
    ] {
        assert_eq!(holds(text, sample), Ok(expected), "{text} on {sample}");
    }
}

#[test]
fn what_does_not_fit_the_value_is_an_error_and_never_an_answer() {
    let (scalar, vector) = (Sample::Value(1.0), series(&[1.0]));
    for (text, sample) in [
        ("result[0] > 0.5", &scalar),
        ("result > 0.5", &vector),
        ("isNaN(result)", &vector),
        ("result[0] > 0.5", &Sample::Empty),
        ("results[0] >= 90.000000", &vector),
        ("invalidVariable", &scalar),
        ("1", &scalar),
        ("result", &scalar),
        ("asFloat('notfloat') > 1", &scalar),
        ("now() > 1", &scalar),
        ("asInt(result) > 1", &Sample::Value(f64::NAN)),
    ] {
        let answer = holds(text, sample);
        assert!(
            matches!(answer, Err(ConditionError::Evaluation(_) | ConditionError::NotBool(_))),
            "{text} on {sample}: {answer:?}"
        );
    }
    for text in ["result[0] 10.000000", "", "result >", "result = 1"] {
        assert!(matches!(Condition::compile(text), Err(ConditionError::Syntax(_))), "{text:?}");
    }
}

#[test]
fn what_could_take_unbounded_time_or_memory_is_refused_before_it_is_parsed() {
    let deep = format!("{}result{} > 1", "(".repeat(13), ")".repeat(13));
    let brackets = format!("result{}", "[result".repeat(40));
    let choices = "true ? ".repeat(33);
    for text in [
        "len(1..1000000000) > 1",
        deep.as_str(),
        brackets.as_str(),
        choices.as_str(),
        "all(result, {all(result, {all(result, {# > 1})})})",
    ] {
        let refused = Condition::compile(text).map(|_| ());
        assert!(matches!(refused, Err(ConditionError::Unbounded(_))), "{text}: {refused:?}");
    }
    let long = format!("result > {}", "1".repeat(MAX_LENGTH));
    assert!(matches!(Condition::compile(&long), Err(ConditionError::TooLong(4_105))));
    let many = series(&vec![1.0; MAX_SERIES + 1]);
    assert_eq!(holds("len(result) > 1", &many), Err(ConditionError::TooManySeries(1_001)));
}

#[test]
fn brackets_and_dots_inside_text_are_not_counted() {
    let text = format!("'{}..' != \"it\\\"s (((((((((((((\" && result > 0", "(".repeat(20));
    assert_eq!(holds(&text, &Sample::Value(1.0)), Ok(true));
}

#[test]
fn a_condition_that_names_the_absence_is_known_by_it() {
    let handles = |text: &str| {
        let condition = Condition::compile(text).unwrap();
        (condition.handles(Absence::Empty), condition.handles(Absence::NaN))
    };
    assert_eq!(handles("len(result) == 0 || result[0] >= 0.95"), (true, false));
    assert_eq!(handles("default(result, 0) < 0.05"), (true, false));
    assert_eq!(handles("not isNaN(result) and result > 1"), (false, true));
    assert_eq!(handles("result > 1 or isNaN (result)"), (false, true));
    assert_eq!(handles("all(result, # < 5)"), (false, false), "true on no series at all");
    assert_eq!(handles("result > 1 && 'isNaN(' != 'len('"), (false, false));
}

#[test]
fn a_plain_comparison_is_explained_in_numbers_and_anything_else_by_its_text() {
    let explain = |text: &str, sample: &Sample| {
        let condition = Condition::compile(text).unwrap();
        condition.explain(sample, condition.holds(sample).unwrap())
    };
    assert_eq!(explain("result[0] <= 0.01", &series(&[0.0731])), "0.0731 > 0.01");
    assert_eq!(explain("result[0] <= 0.01", &series(&[0.0031])), "0.0031 <= 0.01");
    assert_eq!(explain(" result >= 0.95 ", &Sample::Value(0.9)), "0.9 < 0.95");
    assert_eq!(explain("result == 1", &Sample::Value(2.0)), "2 != 1");
    assert_eq!(
        explain("all(result, # < 5)", &series(&[1.0, 9.0])),
        "[1,9]: all(result, # < 5) is false"
    );
}

#[test]
fn values_are_written_as_argo_writes_them() {
    for (sample, text) in [
        (Sample::Value(10.0), "10"),
        (Sample::Value(0.000_333_288_188_224_653_3), "0.0003332881882246533"),
        (Sample::Value(f64::NAN), "NaN"),
        (Sample::Value(f64::INFINITY), "+Inf"),
        (Sample::Value(f64::NEG_INFINITY), "-Inf"),
        (series(&[10.0, 11.0]), "[10,11]"),
        (Sample::Empty, "[]"),
    ] {
        assert_eq!(sample.to_string(), text);
    }
    assert!(series(&[1.0; 30]).to_string().ends_with(",1,... 30 in all]"));
}
