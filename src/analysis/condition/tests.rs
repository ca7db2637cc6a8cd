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
        // Argo's engine refuses these before it runs them; without types they would be false.
        ("result == '0.5'", &scalar),
        ("asFloat(result) == '1.1'", &scalar),
        ("result == true", &scalar),
        ("result[0] == 'up'", &vector),
        ("'1' in result", &vector),
        ("result.errors > 1", &scalar),
        ("result.errors > 1", &vector),
        ("result and true", &scalar),
        ("all(result, #)", &vector),
        ("unknown(result)", &scalar),
        ("isNaN(result, 1)", &scalar),
        ("result.Name() == 'hi'", &scalar),
        ("result[0].Name() == 'hi'", &vector),
        ("result == 1 ? 'a' : 'b'", &scalar),
    ] {
        let answer = holds(text, sample);
        assert!(
            matches!(
                answer,
                Err(ConditionError::Evaluation(_)
                    | ConditionError::Type(_)
                    | ConditionError::NotBool(_))
            ),
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
    let choices = format!("{}true", "true ? true : ".repeat(60));
    let chain = format!("true{}", " and true".repeat(200));
    for text in [
        "len(1..1000000000) > 1",
        deep.as_str(),
        brackets.as_str(),
        choices.as_str(),
        chain.as_str(),
        "all(result, {all(result, {all(result, {# > 1})})})",
        "all(result, {any(result, {max(result) > #})})",
        "len(repeat('x', 1000000000)) > 1",
        "len(replace(result, '', 'xxxxxxxx')) > 1",
        "len(map(result, {map(result, result)})) > 1",
        "let a = [result, result, result, result, result, result, result, result, result, result]; \
         let b = [a, a, a, a, a, a, a, a, a, a]; let c = [b, b, b, b, b, b, b, b, b, b, b]; len(c) > 1",
        "reduce(result, #acc + #acc, 'x') == 'x'",
        "reduce(result, {let a = #acc; a + a}, 'x') == 'x'",
    ] {
        let refused = Condition::compile(text).map(|_| ());
        assert!(matches!(refused, Err(ConditionError::Unbounded(_))), "{text}: {refused:?}");
    }
    let long = format!("result > {}", "1".repeat(MAX_LENGTH));
    assert!(matches!(Condition::compile(&long), Err(ConditionError::TooLong(4_105))));
    let nested = "all(result, {count(result, # > 1) == 0})";
    for (text, most) in [("len(result) > 1", 10_000), (nested, MAX_SERIES)] {
        let refused = holds(text, &series(&vec![1.0; most + 1]));
        assert_eq!(refused, Err(ConditionError::TooManySeries(most + 1, most)), "{text}");
    }
    // Five hours of a range query at 15 s.
    assert_eq!(holds("all(result, # < 2)", &series(&[1.0; 1_200])), Ok(true));
}

#[test]
fn brackets_and_dots_inside_text_are_not_counted() {
    let text = format!("'{}..' != \"it\\\"s (((((((((((((\" && result > 0", "(".repeat(20));
    assert_eq!(holds(&text, &Sample::Value(1.0)), Ok(true));
}

#[test]
fn json_is_read_and_written_as_the_language_has_it() {
    let one = Sample::Value(1.0);
    assert_eq!(holds("fromJSON('{\"limit\": 2}').limit > result", &one), Ok(true));
    assert_eq!(holds("fromJSON(toJSON([1, 2]))[1] == 2", &one), Ok(true));
    assert_eq!(holds("toJSON('a') == '\"a\"'", &one), Ok(true));
    assert!(matches!(holds("fromJSON('{') == 1", &one), Err(ConditionError::Evaluation(_))));
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
    let nil = |text: &str| Condition::compile(text).unwrap().handles(Absence::Nil);
    assert!(nil("result == nil || result < 1") && nil("(result ?? 0) < 1") && nil("isNil(result)"));
    assert!(!nil("result.a == nil") && !nil("(result.a ?? 0) < 1") && !nil("result < 1"));
    assert!(!handles("result == nil").0, "a list is not nil");
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
    assert_eq!(explain("result <= 0.1", &Sample::Value(0.391_652_324)), "0.3917 > 0.1");
    assert_eq!(explain("result <= 0.1", &Sample::Value(0.100_000_01)), "0.10000001 > 0.1");
    assert_eq!(explain("result <= 5", &Sample::Value(123_456.0)), "123456 > 5");
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

/// A condition, an answer, and what it gives; `None`: an error, there as here.
type Row = (&'static str, serde_json::Value, Option<bool>);

/// Every distinct condition of Argo's documentation, examples and tests.
fn corpus() -> Vec<Row> {
    [over_lists(), over_fields(), over_values(), beyond()].concat()
}

fn over_lists() -> Vec<Row> {
    use serde_json::json;
    let (yes, no) = (Some(true), Some(false));
    let apdex = "all(result.service_apdex.values.values, {asFloat(.value) >= 9900})";
    let values = |v: &str| json!({"service_apdex": {"values": {"values": [{"value": v}]}}});
    let cloud = "len(result[0].Values) >= 5 and all(result[0].Values, {# <= 0.01})";
    vec![
        ("all(result, # < 1000)", json!([1, 999]), yes),
        ("all(result, # < 1000)", json!([1, 1000]), no),
        ("all(result, # > 10)", json!([11, 12]), yes),
        ("all(result, {# < 5})", json!([1, 5]), no),
        ("any(result, {# > 5})", json!([1, 2, 3, 4, 5, 6]), yes),
        ("any(result, {# > 6})", json!([1, 2, 3, 4, 5, 6]), no),
        (apdex, values("9950"), yes),
        (apdex, values("9800"), no),
        (apdex, json!({"service_apdex": 1}), None),
        (cloud, json!([{"Values": [0.0, 0.01, 0.0, 0.0, 0.0]}]), yes),
        (cloud, json!([{"Values": [0.0, 0.01, 0.0]}]), no),
        (
            "result.ok && result.successPercent >= 0.90",
            json!({"ok": true, "successPercent": 0.9}),
            yes,
        ),
        ("result.ok && result.successPercent >= 0.90", json!({"ok": false}), no),
        ("default(result, 0) < 0.05", json!(null), yes),
        ("default(result, 1) < 0.05", json!(null), no),
        ("default(result, 0) < 10", json!(9), yes),
        ("default(result, 0) < 5", json!(9), no),
        ("isInf(result)", json!(1), no),
        ("isNaN(result) || result >= 0.95", json!(0.96), yes),
    ]
}

fn over_fields() -> Vec<Row> {
    use serde_json::json;
    let (yes, no) = (Some(true), Some(false));
    let relic = "result.count != 10 or result['average.duration'] >= 15.0";
    let relic_good = "result.count == 10 and result['average.duration'] < 15.0";
    vec![
        ("len(result) == 0 || result[0] >= 0.95", json!([]), yes),
        ("len(result) > 0 && result[0] >= 0.95", json!([]), no),
        ("len(result) != 2", json!([10, 11]), no),
        ("max(result) < 0.05", json!([0.01, 0.087, 0.04]), no),
        ("max(result) < 0.05", json!([0.01, 0.02]), yes),
        ("result < 0.95", json!(0.94), yes),
        ("result <= 0.01", json!(0.02), no),
        ("result == \"I am OK\"", json!("I am OK"), yes),
        ("result == 'It worked!'", json!("It worked!"), yes),
        ("result == 'true'", json!("false"), no),
        ("result == true", json!(true), yes),
        ("result == true", json!(false), no),
        ("result == \"true\"", json!(true), None),
        ("result >= 0.95", json!("0.95"), None),
        ("result.Status == -1", json!({"Status": -1}), yes),
        ("result.Status == 999", json!({}), no),
        ("result.major == '1'", json!({"major": "1"}), yes),
        ("result.major == '1'", json!({"major": 1}), no),
        ("result.successRate >= 0.95", json!({"successRate": 0.95}), yes),
        ("result.successRate >= 0.95", json!({}), None),
        ("result[0] < 0.50", json!([0.4]), yes),
        ("result[0] <= 0.95", json!([0.95]), yes),
        ("result[0] <= 0.95", json!([0.96]), no),
        ("result[0] >= 0.90", json!([0.9]), yes),
        ("result[0] >= 0.90", json!([0.89]), no),
        ("result[0] >= 0.99", json!([0.98]), no),
        ("default(result, 0) > 3", json!([]), no),
        ("default(result, 0) > 3", json!(4), yes),
        ("result[0] <= 0.01", json!([]), None),
        ("result[0] >= 10", json!([10]), yes),
        ("results[0] >= 90.000000", json!([95]), None),
        ("10 in result", json!([10, 11]), yes),
        ("2 in result", json!([2.0, 2.0]), yes),
        ("10.000000 not in result", json!([10, 11]), no),
        (relic, json!({"count": 10, "average.duration": 12.5}), no),
        (relic, json!({"count": 9, "average.duration": 12.5}), yes),
        (relic_good, json!({"count": 10, "average.duration": 12.5}), yes),
        ("result[0].Values[0] == 0.1", json!([{"Values": [0.1]}]), yes),
        ("result[0].count == 10", json!([{"count": 10}]), yes),
        ("result[1] <  20", json!([30, 10]), yes),
        ("result[2].count < 20", json!([0, 0, {"count": 30}]), no),
    ]
}

fn over_values() -> Vec<Row> {
    use serde_json::json;
    let (yes, no) = (Some(true), Some(false));
    let c1 = "result.a > 0 && result.b && all(result.c, {# < 5}) && result.d == nil";
    let j1 = json!({"a": 1, "b": true, "c": [1, 2, 3, 4], "d": null});
    let fields = "result.num > 1.1 && result.bool && result.mapfield.foo == \"bar\"";
    vec![
        ("asInt(result) == 1", json!("1"), yes),
        ("asInt(result) == 1", json!(1), yes),
        ("asInt(result) == 1", json!(1.123), yes),
        ("asInt(result) == 1", json!("notint"), None),
        ("asFloat(result) == 1", json!("1"), yes),
        ("asFloat(result) == 1.1", json!("1.1"), yes),
        ("asFloat(result) == 1", json!(1), yes),
        ("asFloat(result) == 1.1", json!(1.1), yes),
        ("default(result, 5) == 5", json!(null), yes),
        ("default(result, 5) == 1", json!(1), yes),
        ("isNil(result)", json!(null), yes),
        ("isNil(result)", json!([]), yes),
        ("isNil(result)", json!(1), no),
        ("isNil(result)", json!(false), no),
        ("isNil(result)", json!(["hi"]), no),
        (
            "all(result.service_apdex.values.values, {# > 1})",
            json!({"service_apdex": {"values": {"values": [2.0, 3.5]}}}),
            yes,
        ),
        ("asInt(result) > 0", json!("1"), yes),
        ("asInt(result) <= 0", json!("0"), yes),
        ("asInt(result) > 0", json!("1.1"), None),
        ("asFloat(result) > 1.1", json!("1.2"), yes),
        ("asFloat(result) < 1.3", json!("1.2"), yes),
        ("asFloat(result) > 1", json!("notfloat"), None),
        ("result > 0", json!(1.1), yes),
        ("result <= 0", json!(-1.1), yes),
        (c1, j1.clone(), yes),
        ("result.a >= 2 && result.b", j1, no),
        (fields, json!({"num": 1.2, "bool": true, "mapfield": {"foo": "bar"}}), yes),
        (fields, json!({"num": 1.2, "bool": true, "mapfield": {"foo": "baz"}}), no),
        ("true", json!(1), yes),
        ("false", json!(1), no),
        ("1", json!(1), None),
        ("invalidVariable", json!(1), None),
        ("result[0] 10.000000", json!([10]), None),
        ("asFloat(result) == \"1.1\"", json!("1.1"), None),
        ("result.Name() == 'hi'", json!(true), None),
    ]
}

/// The rest of the language, where the two engines could part.
fn beyond() -> Vec<Row> {
    use serde_json::json;
    let (yes, no) = (Some(true), Some(false));
    vec![
        ("result.a ?? 5 > 4", json!({}), yes),
        ("0 < result < 2", json!(1), yes),
        ("0 < result < 2", json!(2), no),
        ("not (result in [1, 2])", json!(3), yes),
        ("result not in [1, 2]", json!(2), no),
        ("-result ** 2 == -4", json!(2), yes),
        ("result.a?.b == nil", json!({}), yes),
        ("result[-1] == 3", json!([1, 2, 3]), yes),
        ("len(result[1:]) == 2", json!([1, 2, 3]), yes),
        ("result | filter(# > 1) | len() == 2", json!([1, 2, 3]), yes),
        ("result matches '^v[0-9]+$'", json!("v12"), yes),
        ("result startsWith 'ok' or result endsWith '!'", json!("no!"), yes),
        ("upper(result) contains 'OK'", json!("all ok"), yes),
        ("let x = result * 2; x > 3 and x < 5", json!(2), yes),
        ("if result > 1 { true } else { false }", json!(2), yes),
        ("count(result, # > 1) == 2 && sum(result) == 6", json!([1, 2, 3]), yes),
        ("reduce(result, #acc + #, 0) == 6", json!([1, 2, 3]), yes),
        (
            "all(result.conditions, .type != 'Ready' or .status == 'True')",
            json!({"conditions": [{"type": "Ready", "status": "True"}]}),
            yes,
        ),
        (
            "find(result.conditions, .type == 'Ready').status == 'True'",
            json!({"conditions": [{"type": "Ready", "status": "False"}]}),
            no,
        ),
        ("mean(result) == 2 and median(result) == 2 and min(result) == 1", json!([1, 2, 3]), yes),
        ("now() > date('2023-08-14T00:00:00Z')", json!(1), None),
        ("int(result) % 2 == 0 // even", json!(4), yes),
    ]
}

#[test]
fn every_condition_of_argos_documentation_examples_and_tests_gives_what_it_gives_there() {
    for (text, json, expected) in corpus() {
        let answer = holds(text, &Sample::Json(json.clone()));
        assert_eq!(answer.clone().ok(), expected, "{text} on {json}: {answer:?}");
    }
}

#[test]
fn a_condition_means_the_same_after_it_has_been_given_its_brackets() {
    for (text, _, _) in corpus() {
        let Ok(tree) = syntax::parse(text) else { continue };
        let clear = print::print(&tree);
        assert_eq!(syntax::parse(&clear).as_ref(), Ok(&tree), "{text} became {clear}");
    }
}

#[test]
fn a_condition_is_typed_before_there_is_an_answer() {
    let number = Type::Float;
    let list = Type::List(Box::new(Type::Float));
    let fits = |text: &str, kind: &Type| Condition::compile(text).unwrap().fits(kind);
    assert_eq!(fits("result <= 0.01", &number), Ok(()));
    assert_eq!(fits("len(result) == 0 || result[0] <= 0.01", &list), Ok(()));
    for (text, kind, words) in [
        ("result <= 0.01", &list, "invalid operation: <= (mismatched types []float64 and float64)"),
        ("result[0] <= 0.01", &number, "type float64 has no elements: write result without [...]"),
        ("results[0] <= 0.01", &list, "unknown name results"),
        ("isNaN(result)", &list, "cannot use []float64 as argument (type float64) to call isNaN"),
        ("result == '1'", &number, "invalid operation: == (mismatched types float64 and string)"),
        ("result + 1", &number, "expected bool, but got float64"),
    ] {
        assert_eq!(fits(text, kind).unwrap_err().to_string(), words, "{text}");
    }
}

#[test]
fn an_answer_that_is_too_large_is_refused_and_not_judged() {
    let many = |n: usize| Sample::Json(vec![1; n].into());
    assert_eq!(holds("all(result, # == 1)", &many(5_000)), Ok(true));
    let squared = "all(result, {let x = #; any(result, # == x)})";
    assert_eq!(holds(squared, &many(500)), Ok(true));
    assert!(matches!(holds(squared, &many(5_000)), Err(ConditionError::TooManyValues(1_000))));
    assert!(matches!(
        holds("len(result) > 1", &many(20_000)),
        Err(ConditionError::TooManyValues(_))
    ));
    let long = Sample::Text("x".repeat(70_000));
    assert!(matches!(holds("result == 'x'", &long), Err(ConditionError::TooManyValues(_))));
}
