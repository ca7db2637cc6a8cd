use serde_json::json;

use super::*;

fn counter(db: &mut Tsdb, labels: &[(&str, &str)], values: &[f64]) {
    let labels = Labels::new("requests_total", labels.iter().copied());
    for (i, value) in values.iter().enumerate() {
        db.append(&labels, i64::try_from(i).unwrap() * 10_000, *value).unwrap();
    }
}

fn vector(db: &Tsdb, query: &str, at_ms: i64) -> Vec<(String, f64)> {
    match Engine::default().instant(db, query, at_ms).unwrap() {
        Value::Vector(samples) => {
            samples.into_iter().map(|s| (s.labels.to_string(), s.value)).collect()
        }
        other => panic!("not a vector: {other:?}"),
    }
}

fn two_codes() -> Tsdb {
    let mut db = Tsdb::new(3_600_000);
    counter(&mut db, &[("code", "200")], &[0.0, 90.0, 180.0, 270.0]);
    counter(&mut db, &[("code", "500")], &[0.0, 10.0, 20.0, 30.0]);
    db
}

#[test]
fn an_error_ratio_is_the_share_of_failed_requests() {
    let query = r#"sum(rate(requests_total{code=~"5.."}[1m])) / sum(rate(requests_total[1m]))"#;
    assert_eq!(vector(&two_codes(), query, 30_000), [("{}".to_owned(), 0.1)]);
}

#[test]
fn a_counter_reset_does_not_count_backwards() {
    let mut db = Tsdb::new(3_600_000);
    counter(&mut db, &[], &[100.0, 110.0, 4.0, 14.0]);
    // 10 before the restart, 4 since zero, 10 more: over exactly the sampled 30 s.
    assert_eq!(vector(&db, "increase(requests_total[30001ms])", 30_000)[0].1.round(), 24.0);
}

#[test]
fn a_stale_series_is_no_longer_found() {
    let mut db = two_codes();
    let gone = Labels::new("requests_total", [("code", "500")]);
    db.append(&gone, 40_000, stale_marker()).unwrap();
    assert_eq!(vector(&db, "count(requests_total)", 39_999)[0].1, 2.0);
    assert_eq!(vector(&db, "count(requests_total)", 40_000)[0].1, 1.0);
    assert_eq!(vector(&db, "count(requests_total)", 329_999)[0].1, 1.0);
    assert_eq!(vector(&db, "count(requests_total)", 330_001), []);
}

#[test]
fn samples_must_come_in_time_order_and_old_ones_are_forgotten() {
    let mut db = Tsdb::new(15_000);
    counter(&mut db, &[], &[1.0, 2.0, 3.0, 4.0]);
    let labels = Labels::new("requests_total", [("", "")]);
    assert!(matches!(db.append(&labels, 30_000, 5.0), Err(TsdbError::OutOfOrder { .. })));
    assert_eq!(vector(&db, "count_over_time(requests_total[1h])", 30_000)[0].1, 2.0);
    db.prune(60_000);
    assert_eq!(db.series_count(), 0);
}

#[test]
fn the_left_end_of_a_range_belongs_to_it_only_in_version_two() {
    let db = two_codes();
    let count = |dialect| {
        let engine = Engine { dialect, ..Engine::default() };
        let query = r#"count_over_time(requests_total{code="200"}[20s])"#;
        match engine.instant(&db, query, 30_000).unwrap() {
            Value::Vector(samples) => samples[0].value,
            other => panic!("not a vector: {other:?}"),
        }
    };
    assert_eq!((count(Dialect::V2), count(Dialect::V3)), (3.0, 2.0));
}

/// From 8 to 28 over 20 s: by its slope the counter was zero 8 s before the first sample. Version 2
/// goes back to there; version 3 first limits the gap to half an interval, 5 s. Both add 5 s at the
/// right end.
#[test]
fn extrapolation_to_a_counters_zero_follows_the_version() {
    let mut db = Tsdb::new(3_600_000);
    let labels = Labels::new("requests_total", [("app", "web")]);
    for (at_ms, value) in [(30_000, 8.0), (40_000, 18.0), (50_000, 28.0)] {
        db.append(&labels, at_ms, value).unwrap();
    }
    let increase = |dialect| {
        let engine = Engine { dialect, ..Engine::default() };
        match engine.instant(&db, "increase(requests_total[55s])", 55_000).unwrap() {
            Value::Vector(samples) => samples[0].value,
            other => panic!("not a vector: {other:?}"),
        }
    };
    assert_eq!((increase(Dialect::V2), increase(Dialect::V3)), (33.0, 30.0));
}

#[test]
fn unknown_functions_and_broken_syntax_are_errors_that_say_so() {
    let db = two_codes();
    let error = |query| Engine::default().instant(&db, query, 0).unwrap_err();
    let unsupported = error("histogram_stddev(requests_total)");
    assert!(unsupported.to_string().contains("histogram_stddev()"), "{unsupported}");
    assert!(matches!(error("sum(("), QueryError::Parse(_)));
    assert!(matches!(error("rate(requests_total[1h:1ms])"), QueryError::Execution(_)));
}

#[test]
fn a_metrics_page_is_read_with_escapes_and_comments() {
    let page = "# HELP a b\n# TYPE hits_total counter\n\
                hits_total{path=\"a\\\\b\\\"c\\n\",code=\"200\",} 12\n\
                temp -Inf\nlat_bucket{le=\"+Inf\"} 3e2 1700000000000\n";
    let samples = parse_exposition(page).unwrap();
    let expected = Labels::new("hits_total", [("path", "a\\b\"c\n"), ("code", "200")]);
    assert_eq!(samples[0], Exposed { labels: expected, value: 12.0, at_ms: None });
    assert_eq!(samples[1].value, f64::NEG_INFINITY);
    assert_eq!((samples[2].value, samples[2].at_ms), (300.0, Some(1_700_000_000_000)));
    for broken in ["hits{a=\"b} 1", "hits{a=b} 1", "hits", "hits x", "1hits 2", "hits 1 2 3"] {
        let error = parse_exposition(&format!("# fine\n{broken}")).unwrap_err();
        assert_eq!(error.line, 2, "{broken}");
    }
}

#[test]
fn the_http_answers_have_prometheus_shape() {
    let db = two_codes();
    let ask = |path: &str, query: &str| {
        api::respond(&Engine::default(), &db, path, &api::form(query.as_bytes()), 30_500)
    };
    let answer = ask("/api/v1/query", "query=sum(requests_total)");
    let data = json!({"resultType": "vector", "result": [{"metric": {}, "value": [30.5, "300"]}]});
    assert_eq!(answer.body, json!({"status": "success", "data": data}));
    assert_eq!(
        ask("/api/v1/query", "query=1&time=2").body["data"]["result"].to_string(),
        r#"[2,"1"]"#
    );
    assert_eq!(ask("/api/v1/query", "query=1%2F").status, 400);
    assert_eq!(ask("/api/v1/query", "").body["errorType"], "bad_data");
    let many = "query=requests_total%20%2B%20on()%20requests_total";
    assert_eq!((ask("/api/v1/query", many).status), 422);
    let range = ask("/api/v1/query_range", "query=vector(1)&start=0&end=10&step=5s");
    assert_eq!(range.body["data"]["result"][0]["values"].as_array().unwrap().len(), 3);
    assert_eq!(ask("/api/v1/series", "match[]=requests_total").body["data"][0]["code"], "200");
    assert_eq!(ask("/api/v1/labels", "").body["data"].to_string(), r#"["__name__","code"]"#);
    assert_eq!(ask("/nothing", "").status, 404);
}

#[tokio::test]
async fn the_router_reads_forms_and_query_strings_and_says_ready() {
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    let clock = crate::clock::SimClock::at(jiff::Timestamp::from_second(30).unwrap());
    let db = std::sync::Arc::new(std::sync::RwLock::new(two_codes()));
    let router = api::router(Engine::default(), db, std::sync::Arc::new(clock));
    let ask = async |method: &str, uri: &str, body: &'static str| {
        let request = http::Request::builder().method(method).uri(uri);
        let request = request.body(axum::body::Body::from(body)).unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.into_body().collect().await.unwrap().to_bytes())
    };
    let value = |body: &[u8]| {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap();
        body["data"]["result"][0]["value"][1].clone()
    };
    let (status, body) = ask("GET", "/api/v1/query?query=sum%28requests_total%29", "").await;
    assert_eq!((status, value(&body)), (200, json!("300")));
    let (status, body) = ask("POST", "/api/v1/query", "query=max(requests_total)").await;
    assert_eq!((status, value(&body)), (200, json!("270")));
    assert_eq!(ask("GET", "/-/ready", "").await.0, 200);
    assert_eq!(ask("PUT", "/api/v1/query", "").await.0, 405);
    assert_eq!(ask("POST", "/api/v1/query", "query=sum(").await.0, 400);
}
