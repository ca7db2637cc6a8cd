//! The Prometheus client against a server that answers what Prometheus documents.

use axum::routing::any;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::*;
use crate::analysis::{Ask, Range, RangeTime};

fn data(kind: &str, result: &str) -> String {
    format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}}}}"#)
}

#[tokio::test]
async fn documented_answers_become_samples() {
    let scalar = data("scalar", r#"[1435781451.781,"1.5"]"#);
    let vector = data(
        "vector",
        r#"[{"metric":{"job":"a"},"value":[1435781451.781,"1"]},
            {"metric":{"job":"b"},"value":[1435781451.781,"+Inf"]}]"#,
    );
    let nan = data("vector", r#"[{"metric":{},"value":[1435781451,"NaN"]}]"#);
    let matrix = data(
        "matrix",
        r#"[{"metric":{},"values":[[1,"1"],[2,"2"]]},{"metric":{},"values":[[1,"3"]]}]"#,
    );
    let empty = data("vector", "[]");
    let server = fake(&[
        ("scalar", 200, &scalar),
        ("vector", 200, &vector),
        ("nan", 200, &nan),
        ("matrix", 200, &matrix),
        ("empty", 200, &empty),
    ])
    .await;
    let source = inline(&format!("{}/prefix/", server.address));
    for (text, sample) in [
        ("scalar", "1.5"),
        ("vector", "[1,+Inf]"),
        ("nan", "[NaN]"),
        ("matrix", "[1,2,3]"),
        ("empty", "[]"),
    ] {
        let answer = ask(text, source.clone()).await.unwrap();
        assert_eq!(answer.sample.to_string(), sample, "{text}");
    }
    assert_eq!(ask("empty", source).await.unwrap().sample, Sample::Empty);
}

#[tokio::test]
async fn a_labelled_query_keeps_the_labels_and_every_digit() {
    let vector = data(
        "vector",
        r#"[{"metric":{"pod":"web-1"},"value":[1,"0.1"]},{"metric":{},"value":[1,"NaN"]}]"#,
    );
    let (empty, scalar) = (data("vector", "[]"), data("scalar", r#"[1,"1.5"]"#));
    // As the API's documentation has it: boundary rule, left, right and count of each bucket.
    let buckets = r#"{"count":"3","sum":"2.5","buckets":[[0,"0.5","1","2"],[0,"1","2","1"]]}"#;
    let native =
        data("vector", &format!(r#"[{{"metric":{{"pod":"web-1"}},"histogram":[1.5,{buckets}]}}]"#));
    let server = fake(&[
        ("q", 200, &vector),
        ("none", 200, &empty),
        ("scalar", 200, &scalar),
        ("native", 200, &native),
    ])
    .await;
    let source = inline(&format!("{}/prefix/", server.address));
    let asked = |text: &str| Query { labelled: true, ..query(text, source.clone()) };
    let pool = pool(Catalog::default());
    let found = pool.query(&asked("q")).await.unwrap().sample;
    let expected = json!([{"labels": {"pod": "web-1"}, "value": "0.1"},
                          {"labels": {}, "value": "NaN"}]);
    assert_eq!(found, Sample::Json(expected));
    assert_eq!(pool.query(&asked("none")).await.unwrap().sample, Sample::Json(json!([])));
    assert_eq!(pool.query(&asked("scalar")).await.unwrap().sample, Sample::Value(1.5));
    let found = pool.query(&asked("native")).await.unwrap().sample;
    let kept: serde_json::Value = serde_json::from_str(buckets).unwrap();
    let expected = json!([{"labels": {"pod": "web-1"}, "histogram": kept}]);
    assert_eq!(found, Sample::Json(expected), "a native histogram keeps its buckets");
}

#[tokio::test]
async fn a_labelled_range_keeps_labels_and_points_however_old_they_are() {
    let matrix = data(
        "matrix",
        r#"[{"metric":{"pod":"web-1"},"values":[[1.5,"0.1"],[16.5,"NaN"]]},
            {"metric":{"pod":"web-2"},"values":[[1.5,"3"]]}]"#,
    );
    let empty = data("matrix", "[]");
    let native = data("matrix", r#"[{"metric":{"pod":"a"},"histograms":[[1,{"count":"3"}]]}]"#);
    let server =
        fake(&[("q", 200, &matrix), ("none", 200, &empty), ("native", 200, &native)]).await;
    let at = |second| RangeTime::fixed(Timestamp::from_second(second).unwrap());
    let range = Range { start: at(0), end: at(3_600), step: SignedDuration::from_secs(15) };
    let mut source = inline(&format!("{}/prefix/", server.address));
    source.ask = Ask::Prometheus { range: Some(range) };
    let pool = pool(Catalog::default());
    let asked = |text: &str| Query { labelled: true, ..query(text, source.clone()) };
    let Sample::Lines(lines) = pool.query(&asked("q")).await.unwrap().sample else { panic!() };
    assert_eq!(lines[0].labels["pod"], "web-1");
    assert_eq!(lines[0].points[0], (Timestamp::from_millisecond(1_500).unwrap(), 0.1));
    assert!(lines[0].points[1].1.is_nan() && lines[1].points.len() == 1);
    assert_eq!(pool.query(&asked("none")).await.unwrap().sample, Sample::Empty);
    let refused = pool.query(&asked("native")).await.unwrap_err().to_string();
    assert!(refused.contains("name the classic buckets"), "{refused}");
}

#[tokio::test]
async fn warnings_come_with_the_answer() {
    let body = r#"{"status":"success","warnings":["store down"],
        "data":{"resultType":"scalar","result":[1,"1"]}}"#;
    let server = fake(&[("q", 200, body)]).await;
    let answer = ask("q", inline(&format!("{}/prefix", server.address))).await.unwrap();
    assert_eq!(answer.warnings, ["store down"]);
}

#[tokio::test]
async fn every_kind_of_failure_has_its_class_and_the_servers_words() {
    let bad = r#"{"status":"error","errorType":"bad_data","error":"parse error: unexpected )"}"#;
    let execution = r#"{"status":"error","errorType":"execution","error":"many-to-many"}"#;
    let server = fake(&[
        ("400", 400, bad),
        ("422", 422, execution),
        ("401", 401, "no"),
        ("404", 404, ""),
        ("500", 500, "boom"),
        ("503", 503, "overloaded"),
        ("garbage", 200, "<html>hello</html>"),
        ("string", 200, &data("string", r#"[1,"x"]"#)),
        ("text", 200, &data("scalar", r#"[1,"x"]"#)),
        ("histogram", 200, &data("vector", r#"[{"metric":{},"histogram":[1,{}]}]"#)),
        ("unsuccessful", 200, r#"{"status":"error"}"#),
    ])
    .await;
    let source = inline(&format!("{}/prefix", server.address));
    for (text, kind, words) in [
        ("400", ErrorKind::Refused, "bad_data: parse error: unexpected )"),
        ("422", ErrorKind::Refused, "execution: many-to-many"),
        ("401", ErrorKind::Refused, "check the credentials"),
        ("404", ErrorKind::Refused, "404 Not Found: an empty body"),
        ("500", ErrorKind::Server, "500 Internal Server Error: boom"),
        ("503", ErrorKind::Server, "overloaded"),
        ("garbage", ErrorKind::Malformed, "not JSON"),
        ("string", ErrorKind::Malformed, "Prometheus metric type not supported: \"string\""),
        ("text", ErrorKind::Malformed, "\"x\" is not a number"),
        ("histogram", ErrorKind::Malformed, "a native histogram, which is no number"),
        ("unsuccessful", ErrorKind::Malformed, "no data in a successful answer"),
    ] {
        let error = QueryError::from(ask(text, source.clone()).await.unwrap_err());
        assert_eq!(error.kind, kind, "{text}: {error}");
        assert!(error.message.contains(words), "{text}: {error}");
        assert!(error.message.contains(&server.address), "{text}: {error}");
    }
}

#[tokio::test]
async fn a_busy_server_says_when_to_come_back() {
    let handler =
        || async { (StatusCode::TOO_MANY_REQUESTS, [("Retry-After", "17")], "slow down") };
    let server = serve(Router::new().fallback(handler)).await;
    let error = QueryError::from(ask("q", inline(&server.address)).await.unwrap_err());
    assert_eq!(error.kind, ErrorKind::RateLimited);
    assert_eq!(error.retry_after, Some(SignedDuration::from_secs(17)));
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_after_the_querys_timeout() {
    let handler = || async { std::future::pending::<()>().await };
    let server = serve(Router::new().fallback(handler)).await;
    let timeout = Some(SignedDuration::from_millis(50));
    let error = ask("q", Source { timeout, ..inline(&server.address) }).await.unwrap_err();
    assert!(matches!(error, ProviderError::Timeout(_)), "{error:?}");
    assert!(error.to_string().contains("did not answer within 0.05 s"), "{error}");
}

#[tokio::test]
async fn a_port_without_a_server_is_unreachable_and_no_password_is_shown() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = ask("q", inline(&format!("http://me:secret@127.0.0.1:{port}"))).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unreachable(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&port.to_string()) && text.contains("refused"), "{text}");
    assert!(!text.contains("secret") && !text.contains("me:"), "{text}");
}

#[tokio::test]
async fn an_answer_larger_than_the_bound_is_not_read() {
    let big = data("scalar", &format!(r#"[1,"{}"]"#, "1".repeat(1_000)));
    let server = fake(&[("q", 200, &big)]).await;
    let mut default = Server::at(&format!("{}/prefix", server.address)).unwrap();
    default.max_bytes = 100;
    let pool = pool(Catalog { default: Some(default), ..Catalog::default() });
    let error = pool.query(&query("q", Source::default())).await.unwrap_err();
    assert!(error.to_string().contains("more than 100 bytes"), "{error}");
}

#[tokio::test]
async fn a_server_that_only_takes_get_is_asked_by_get() {
    let handler = |method: Method, uri: axum::http::Uri| async move {
        let response: Response = if method == Method::GET {
            assert_eq!(uri.query(), Some("query=sum%28x%29"));
            data("scalar", r#"[1,"1"]"#).into_response()
        } else {
            StatusCode::METHOD_NOT_ALLOWED.into_response()
        };
        response
    };
    let server = serve(Router::new().route("/api/v1/query", any(handler))).await;
    assert_eq!(ask("sum(x)", inline(&server.address)).await.unwrap().sample, Sample::Value(1.0));
}

#[tokio::test]
async fn a_redirect_is_refused_so_that_credentials_stay_here() {
    let handler = || async { (StatusCode::FOUND, [("Location", "https://elsewhere/")]) };
    let server = serve(Router::new().fallback(handler)).await;
    let error = ask("q", inline(&server.address)).await.unwrap_err();
    assert!(error.to_string().ends_with("redirects to https://elsewhere/: write that address"));
}

#[tokio::test]
async fn a_template_without_any_address_is_told_the_three_ways_to_give_one() {
    let error = ask("q", Source::default()).await.unwrap_err();
    assert!(matches!(error, ProviderError::Misconfigured(_)));
    assert!(error.to_string().contains("prometheus address is not configured"));
    for address in ["prometheus:9090", "ftp://x", "://wrong.schema", "http://"] {
        let error = ask("q", inline(address)).await.unwrap_err();
        assert!(matches!(error, ProviderError::Misconfigured(_)), "{address}: {error:?}");
    }
}

#[tokio::test]
async fn outcomes_come_in_the_order_of_the_queries_whatever_fails() {
    let one = data("scalar", r#"[1,"1"]"#);
    let server = fake(&[("good", 200, &one), ("bad", 500, "boom")]).await;
    let source = inline(&format!("{}/prefix", server.address));
    let due: Vec<_> = (0..20)
        .map(|i| {
            let text = if i % 2 == 0 { "good" } else { "bad" };
            Query { metric: format!("m{i}"), ..query(text, source.clone()) }
        })
        .collect();
    let outcomes = run_due(&pool(Catalog::default()), due).await;
    assert_eq!(outcomes.len(), 20);
    for (i, (metric, outcome)) in outcomes.iter().enumerate() {
        assert_eq!(*metric, format!("m{i}"));
        assert_eq!(matches!(outcome, Outcome::Answer { .. }), i % 2 == 0, "{metric}");
    }
}
