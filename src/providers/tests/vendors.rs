//! Datadog, CloudWatch and plugins against a local server that answers what each documents, and the
//! failures that all clients have in common.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::asked::*;
use super::*;
use crate::analysis::{Ask, Outcome, plan};
use crate::api::AnalysisRun;
use crate::api::metric_provider::ProviderType;

fn series(last: &str) -> String {
    format!(
        r#"{{"status":"ok","series":[{{"pointlist":[[1598867910000.0,0.002],[1598867925000.0,{last}]]}}]}}"#
    )
}

/// Version, status, body, success condition, value, phase, words. `S` is a series that ends with the
/// value, `N` a column of numbers, `H` the same with a group for each, `T` with a group of two tags.
const DATADOG: &str = r#"
v1 | 200 | S0.0003332881882246533 | result < 0.001 | 0.0003332881882246533 | Successful | -
v1 | 200 | S0.006121374442186943 | result < 0.001 | 0.006121374442186943 | Failed | -
v1 | 200 | S0.01 | default(result, 0) < 0.05 | 0.01 | Successful | -
v1 | 200 | {"series":[]} | result < 0.05 | [] | Error | no data
v1 | 200 | {"series":[]} | default(result, 0) < 0.05 | [] | Successful | -
v1 | 200 | {"series":[]} | result == nil | [] | Successful | -
v1 | 200 | {"series":[]} | (result ?? 0) < 0.05 | [] | Successful | -
v1 | 200 | S0.01 | (result ?? 1) < 0.05 | 0.01 | Successful | -
v1 | 200 | {"series":[]} | default(result, 1) < 0.05 | [] | Failed | -
v1 | 200 | S0.01 | default(result, 1) < 0.05 | 0.01 | Successful | -
v1 | 200 | {"series":"x"} | true | - | Error | Could not parse JSON body
v1 | 200 | {"series":[{"pointlist":{}}]} | true | - | Error | Could not parse JSON body
v1 | 200 | {"status":"error","error":"no such metric"} | true | - | Error | no such metric
v1 | 400 | bad | true | - | Error | received non 2xx response code: 400 bad
v1 | 401 | no | true | - | Error | received authentication error response code: 401 no
v2 | 200 | N[0.0006] | result < 0.001 | 0.0006 | Successful | -
v2 | 200 | N[] | default(result, 0) < 0.05 | [] | Successful | -
v2 | 200 | N[0.006121374442186943] | result < 0.001 | 0.006121374442186943 | Failed | -
v2 | 200 | N[0.01] | default(result, 0) < 0.05 | 0.01 | Successful | -
v2 | 200 | N[0.01] | default(result, 1) < 0.05 | 0.01 | Successful | -
v2 | 200 | N[] | default(result, 1) < 0.05 | [] | Failed | -
v2 | 200 | N[null] | nil != result && result < 0.05 | [] | Failed | -
v2 | 200 | N[] | result < 0.05 | [] | Error | no data
v2 | 200 | T[0.01,0.09,0.02] | max(result) < 0.05 | [0.01,0.09,0.02] | Failed | -
v2 | 200 | H[0.01,0.02,0.03] | all(result, # < 0.05) | [0.01,0.02,0.03] | Successful | -
v2 | 200 | H[0.01,0.087,0.04] | max(result) < 0.05 | [0.01,0.087,0.04] | Failed | -
v2 | 200 | H[0.01,null,0.03] | max(result) < 0.05 | [0.01,0.03] | Successful | -
v2 | 200 | H[0.087] | max(result) < 0.05 | [0.087] | Failed | -
v2 | 200 | {"data":{"errors":"bad"}} | true | - | Error | There were errors in your query: bad
v2 | 200 | N["oops"] | true | - | Error | could not parse numeric value "\"oops\"" in column "query1"
v2 | 200 | <html> | true | - | Error | Could not parse JSON body
v2 | 200 | {"data":{"attributes":{"columns":"x"}}} | true | - | Error | Could not parse JSON body
v2 | 400 | bad | true | - | Error | received non 2xx response code: 400 bad
v2 | 401 | no | true | - | Error | received authentication error response code: 401 no
v2 | 403 | no | true | - | Error | received authentication error response code: 403 no
"#;

fn columns(columns: Value) -> String {
    json!({"data": {"type": "scalar_response", "attributes": {"columns": columns}}}).to_string()
}

fn datadogs_body(cell: &str) -> String {
    let values = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let numbers = |text: &str| json!({"name": "query1", "type": "number", "values": values(text)});
    match cell.split_at_checked(1) {
        Some(("S", last)) => series(last),
        Some(("N", list)) => columns(json!([numbers(list)])),
        Some((letter @ ("H" | "T"), list)) => {
            let tags = if letter == "H" { json!(["host-a"]) } else { json!(["host-a", "eu"]) };
            let labels = vec![tags; values(list).as_array().unwrap().len()];
            let group = json!({"name": "host", "type": "group", "values": labels});
            columns(json!([group, numbers(list)]))
        }
        _ => cell.to_owned(),
    }
}

async fn datadog(api: &str, status: u16, body: &str, success: &str) -> Asked {
    let (server, _) = saying(status, body).await;
    let pool = provider(ProviderType::Datadog, &server.address);
    let datadog = json!({"apiVersion": api, "query": "avg:errors{app:web}"});
    let provider = json!({"ref": "p", "datadog": datadog});
    measure_with(&pool, json!({"successCondition": success, "provider": provider})).await.1
}

#[tokio::test]
async fn datadogs_answers_are_judged_as_argo_judges_them() {
    for line in DATADOG.trim().lines() {
        let [api, status, body, success, value, phase, words] = cells(line);
        let asked = datadog(api, status.parse().unwrap(), &datadogs_body(body), success).await;
        let what = format!("{line}: {}", asked.message);
        assert_eq!((asked.phase, asked.value.as_str()), (phase_of(phase), value), "{what}");
        assert!(asked.message.contains(words), "{what}");
    }
    let two = columns(json!([{"name": "query1", "type": "number", "values": [0.2]},
        {"name": "query2", "type": "number", "values": [0.0]}]));
    assert_eq!(datadog("v2", 200, &two, "result < 0.05").await.value, "0.2");
    let label = columns(json!([{"name": "host", "type": "group", "values": [["a"], "b"]},
        {"name": "query1", "type": "number", "values": [1, 2]}]));
    let asked = datadog("v2", 200, &label, "true").await;
    assert!(asked.message.contains("could not parse group label at index 1"), "{}", asked.message);
    for api in ["v1", "v2"] {
        let pool = provider(ProviderType::Datadog, "://wrong.schema");
        let stanza = json!({"ref": "p", "datadog": {"apiVersion": api, "query": "avg:x{*}"}});
        let (_, asked) = measure_with(&pool, json!({"provider": stanza})).await;
        let words = "parse \"://wrong.schema\": missing protocol scheme";
        assert!(asked.message.contains(words), "{api}: {}", asked.message);
    }
}

#[tokio::test]
async fn datadog_is_asked_as_it_documents() {
    let (server, log) = saying(200, &series("1")).await;
    let pool = provider(ProviderType::Datadog, &server.address);
    let stanza = json!({"ref": "p", "datadog": {"query": "avg:x{*}", "interval": "10m"}});
    measure_with(&pool, json!({"provider": stanza})).await;
    let stanza = json!({"ref": "p", "datadog": {"apiVersion": "v2", "aggregator": "sum",
        "queries": {"a": "sum:x{*}", "b": "sum:y{*}"}, "formula": "a / b"}});
    measure_with(&pool, json!({"provider": stanza})).await;
    let log = log.lock().unwrap();
    let (v1, v2) = (&log[0], &log[1]);
    assert_eq!((v1.method.as_str(), v1.uri.path()), ("GET", "/api/v1/query"));
    let pairs: BTreeMap<_, _> = reqwest::Url::parse(&format!("http://x{}", v1.uri))
        .unwrap()
        .query_pairs()
        .into_owned()
        .collect();
    assert_eq!(pairs["query"], "avg:x{*}");
    let second = |name: &str| pairs[name].parse::<i64>().unwrap();
    assert_eq!(second("to") - second("from"), 600);
    assert_eq!((v2.method.as_str(), v2.uri.path()), ("POST", "/api/v2/query/scalar"));
    let attributes = &v2.json()["data"]["attributes"];
    assert_eq!(attributes["formulas"], json!([{"formula": "a / b"}]));
    let query = |name: &str, text: &str| json!({"data_source": "metrics", "name": name, "query": text, "aggregator": "sum"});
    assert_eq!(attributes["queries"], json!([query("a", "sum:x{*}"), query("b", "sum:y{*}")]));
}

#[tokio::test]
async fn datadog_counts_the_events_by_their_own_query() {
    for (stanza, at, sent_as) in [
        (json!({"query": "avg:x{*}"}), "/api/v1/query", "GET"),
        (json!({"apiVersion": "v2", "query": "avg:x{*}"}), "/api/v2/query/scalar", "POST"),
    ] {
        let (server, log) = saying(200, &series("1")).await;
        let pool = provider(ProviderType::Datadog, &server.address);
        let metric = json!({"name": "m", "minEvents": 5, "events": "sum:y{*}.as_count()",
            "provider": {"ref": "p", "datadog": stanza}});
        let spec = json!({"metrics": [metric]});
        let mut run = AnalysisRun::new("web-1", serde_json::from_value(spec).unwrap());
        run.metadata.namespace = Some("shop".to_owned());
        let due = plan(&run, Timestamp::UNIX_EPOCH).due;
        run_due(&pool, due.into_iter().skip(1).collect()).await;
        let sent = log.lock().unwrap()[0].clone();
        assert_eq!((sent.method.as_str(), sent.uri.path()), (sent_as, at));
        let asked = format!("{} {}", sent.uri.query().unwrap_or_default(), sent.body);
        assert!(asked.contains("as_count") && !asked.contains("avg"), "{asked}");
    }
}

#[tokio::test]
async fn a_datadog_stanza_that_cannot_be_meant_is_refused() {
    for (stanza, words) in [
        (json!({}), "Must have either a query or queries"),
        (json!({"query": "x", "queries": {"a": "x"}}), "Cannot have both a query and queries"),
        (json!({"queries": {"a": "x"}}), "need apiVersion: v2"),
        (json!({"apiVersion": "v2", "queries": {"a": "x", "b": "y"}}), "must include a formula"),
        (
            json!({"apiVersion": "v2", "query": "x", "formula": "a"}),
            "only valid when queries are set",
        ),
        (json!({"apiVersion": "v3", "query": "x"}), "unsupported apiVersion"),
        (json!({"apiVersion": "v2", "query": "x", "aggregator": "best"}), "aggregator \"best\""),
        (json!({"query": "x", "interval": "long"}), "write 5m"),
        (json!({"query": "x", "querry": "x"}), "unknown field `querry`"),
        (json!({"query": "x"}), "ClusterMetricProvider \"datadog\" not found: create it"),
    ] {
        let asked = measure(json!({"provider": {"datadog": stanza}})).await;
        assert!(asked.message.contains(words), "{stanza}: {}", asked.message);
    }
}

fn aws(address: &str, values: Value) -> Value {
    json!({"provider": {"cloudWatch": {"interval": "30m", "metricDataQueries": values}},
        "successCondition": "all(result[0].Values, {# <= 0.01})", "address": address})
}

/// A pool whose `p` is CloudWatch at `address` with an access key.
fn cloud_watch(address: &str) -> Pool {
    let pool = provider(ProviderType::CloudWatch, address);
    let id = ProviderId { namespace: Some("shop".to_owned()), name: "p".to_owned() };
    let mut server = Server::at(address).unwrap();
    server.auth = Auth::SigV4(AwsRole {
        region: "eu-west-1".to_owned(),
        key: Some(("AKID".to_owned(), "secret".to_owned())),
        ..AwsRole::default()
    });
    drop(pool);
    let namespaced = BTreeMap::from([((id.namespace.unwrap(), id.name), Ok(server))]);
    super::pool(Catalog { namespaced, ..Catalog::default() })
}

#[tokio::test]
async fn cloudwatchs_answers_are_judged_and_its_errors_are_told_apart() {
    use AnalysisPhase::{Error, Failed, Successful};
    let result = |values: Value| {
        json!({"Messages": [], "MetricDataResults": [{"Id": "rate", "Label": "rate",
            "StatusCode": "Complete", "Timestamps": [1.7e9], "Values": values}]})
        .to_string()
    };
    let fault = |kind: &str| json!({"__type": format!("com.amazonaws#{kind}"), "message": "why"});
    for (status, body, phase, words) in [
        (200, result(json!([0.0, 0.005])), Successful, ""),
        (200, result(json!([0.0, 0.5])), Failed, ""),
        (200, result(json!([])), Error, "no data: the query returned an empty result"),
        (200, r#"{"MetricDataResults":[]}"#.into(), Error, "no data"),
        (200, "<xml/>".into(), Error, "not JSON"),
        (400, fault("ValidationError").to_string(), Error, "refused the query: "),
        (400, fault("ThrottlingException").to_string(), Error, "limiting the rate: "),
        (403, fault("AccessDenied").to_string(), Error, "AccessDenied: why: check the credentials"),
        (500, fault("InternalServiceFault").to_string(), Error, "provider failed: "),
    ] {
        let (server, log) = saying(status, &body).await;
        let pool = cloud_watch(&server.address);
        let queries = json!([{"id": "rate", "metricStat": {"metric": {"namespace": "app",
            "metricName": "errors", "dimensions": [{"name": "app", "value": "web"}]},
            "period": "300", "stat": "p99"}, "returnData": true}]);
        let mut metric = aws(&server.address, queries);
        metric.as_object_mut().unwrap().remove("address");
        metric["provider"]["ref"] = json!("p");
        let (_, asked) = measure_with(&pool, metric).await;
        assert_eq!(asked.phase, phase, "{status} {body}: {}", asked.message);
        assert!(asked.message.contains(words), "{status} {body}: {}", asked.message);
        let sent = log.lock().unwrap()[0].clone();
        assert_eq!(sent.header("x-amz-target"), "GraniteServiceVersion20100801.GetMetricData");
        let signed = "/eu-west-1/monitoring/aws4_request, \
                      SignedHeaders=content-type;host;x-amz-date;x-amz-target, ";
        assert!(sent.header("authorization").contains(signed), "{sent:?}");
        let asked = sent.json();
        assert_eq!(asked["EndTime"].as_i64().unwrap() - asked["StartTime"].as_i64().unwrap(), 1800);
        let expected = json!([{"Id": "rate", "MetricStat": {"Metric": {"Namespace": "app",
            "MetricName": "errors", "Dimensions": [{"Name": "app", "Value": "web"}]},
            "Period": 300, "Stat": "p99"}, "ReturnData": true}]);
        assert_eq!(asked["MetricDataQueries"], expected);
    }
}

#[tokio::test]
async fn a_condition_on_cloudwatch_may_say_what_a_result_without_values_is() {
    use AnalysisPhase::{Error, Successful};
    let none = json!({"MetricDataResults": [{"Id": "rate", "Timestamps": [], "Values": []}]});
    let (server, _) = saying(200, &none.to_string()).await;
    let pool = cloud_watch(&server.address);
    for (condition, no_data, phase) in [
        ("len(result[0].Values) == 0 || result[0].Values[0] < 1", "Wait", Successful),
        ("result[0].Values[0] < 1", "Wait", Error),
        ("result[0].Values[0] < 1", "Judge", Error),
        ("all(result[0].Values, # < 1)", "Wait", Error),
        ("all(result[0].Values, # < 1)", "Judge", Successful),
    ] {
        let metric = json!({"successCondition": condition, "noData": no_data,
            "provider": {"ref": "p", "cloudWatch": {"metricDataQueries": [{"id": "rate"}]}}});
        let (_, asked) = measure_with(&pool, metric).await;
        assert_eq!(asked.phase, phase, "{condition} {no_data}: {}", asked.message);
    }
}

#[tokio::test]
async fn a_plugin_gives_a_value_ends_the_measurement_or_takes_longer() {
    use AnalysisPhase::{Error, Failed, Inconclusive, Running, Successful};
    for (body, phase, value, words) in [
        (json!({"value": 0.3}), Successful, "0.3", ""),
        (json!({"value": [0.1, 0.7]}), Error, "[0.1,0.7]", "could not evaluate"),
        (json!({"value": null, "warnings": ["x"]}), Error, "", "write value or phase"),
        (json!({"phase": "Failed", "message": "too slow"}), Failed, "", "too slow"),
        (json!({"phase": "Inconclusive"}), Inconclusive, "", ""),
        (json!({"phase": "Running", "resumeAfter": "20s", "notes": {"id": "7"}}), Running, "", ""),
        (json!({"value": 1, "phase": "Failed"}), Error, "", "write value or phase"),
        (json!({"valeu": 1}), Error, "", "unknown field `valeu`"),
        (
            json!({"phase": "Running", "notes": {"x": "y".repeat(5_000)}}),
            Error,
            "",
            "notes of 5001",
        ),
    ] {
        let (server, log) = saying(200, &body.to_string()).await;
        let pool = provider(ProviderType::Plugin, &format!("{}/base", server.address));
        let metric = json!({"successCondition": "result < 0.5",
            "provider": {"ref": "p", "plugin": {"acme/speed": {"depth": 3}}}});
        let (outcome, asked) = measure_with(&pool, metric).await;
        assert_eq!(
            (asked.phase, asked.value.as_str()),
            (phase, value),
            "{body}: {}",
            asked.message
        );
        assert!(asked.message.contains(words), "{body}: {}", asked.message);
        if let Outcome::Running { resume_at, notes } = outcome {
            assert!(resume_at.is_some() && notes["id"] == "7", "{notes:?}");
        }
        let sent = log.lock().unwrap()[0].clone();
        assert_eq!((sent.method.as_str(), sent.uri.path()), ("POST", "/base/v1/measure"));
        let expected = json!({"plugin": "acme/speed", "config": {"depth": 3}, "metric": "m",
            "run": {"namespace": "shop", "name": "web-1", "uid": "uid-1"}, "number": 0, "notes": {}});
        assert_eq!(sent.json(), expected);
    }
}

#[tokio::test]
async fn a_plugin_is_told_to_stop() {
    let (server, log) = saying(200, "{}").await;
    let pool = provider(ProviderType::Plugin, &server.address);
    let mut asked = query("{}", Source::default());
    asked.source.named = Some(NamedProvider { name: "p".to_owned(), cluster: false });
    asked.source.ask = Ask::Plugin { name: "x".to_owned() };
    asked.asker.notes = Some(BTreeMap::from([("id".to_owned(), "7".to_owned())]));
    let ended = run_cancel(&pool, vec![asked]).await.remove(0).1;
    let Outcome::Ended { phase, message, .. } = ended else { panic!("{ended:?}") };
    assert_eq!(
        (phase, message.as_deref()),
        (AnalysisPhase::Inconclusive, Some("Metric Terminated"))
    );
    let sent = log.lock().unwrap()[0].clone();
    assert_eq!((sent.uri.path(), &sent.json()["notes"]["id"]), ("/v1/cancel", &json!("7")));
}

/// A stanza of each kind, for the provider `p`.
fn stanza(type_: ProviderType, address: &str) -> Value {
    let mut stanza = match type_ {
        ProviderType::Web => json!({"web": {"url": address, "timeoutSeconds": 1}}),
        ProviderType::Datadog => json!({"datadog": {"query": "x", "requestTimeout": "1s"}}),
        ProviderType::CloudWatch => json!({"cloudWatch": {"metricDataQueries": [{"id": "a"}]}}),
        ProviderType::Plugin => json!({"plugin": {"x": {}}}),
        _ => json!({"prometheus": {"query": "x", "timeout": 1}}),
    };
    stanza["ref"] = json!("p");
    stanza
}

/// What every client over HTTP must do with every kind of failure. A new client is one more line.
#[tokio::test]
async fn every_client_tells_the_same_failures_apart() {
    let clients = [
        ProviderType::Prometheus,
        ProviderType::Web,
        ProviderType::Datadog,
        ProviderType::CloudWatch,
        ProviderType::Plugin,
    ];
    for type_ in clients {
        let of = |address: &str| match type_ {
            ProviderType::CloudWatch => cloud_watch(address),
            _ => provider(type_, address),
        };
        for (status, kind) in [
            (429, ErrorKind::RateLimited),
            (400, ErrorKind::Refused),
            (401, ErrorKind::Refused),
            (404, ErrorKind::Refused),
            (500, ErrorKind::Server),
            (502, ErrorKind::Server),
        ] {
            let (server, _) = saying(status, "its own words").await;
            let pool = of(&server.address);
            let metric = json!({"provider": stanza(type_, &server.address)});
            let (outcome, asked) = measure_with(&pool, metric).await;
            let Outcome::Error(error) = outcome else { panic!("{type_:?} {status}: {outcome:?}") };
            assert_eq!(error.kind, kind, "{type_:?} {status}: {error}");
            assert!(asked.message.contains("its own words"), "{type_:?}: {}", asked.message);
            assert!(asked.message.contains(&server.address), "{type_:?}: {}", asked.message);
        }
        let gone = "http://127.0.0.1:1";
        let (outcome, _) = measure_with(&of(gone), json!({"provider": stanza(type_, gone)})).await;
        let Outcome::Error(error) = outcome else { panic!("{type_:?}: {outcome:?}") };
        assert_eq!(error.kind, ErrorKind::Unreachable, "{type_:?}: {error}");
    }
}
