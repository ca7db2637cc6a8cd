//! The Prometheus client against a server that answers what Prometheus documents.

use std::collections::BTreeMap;

use axum::Router;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::analysis::{NamedProvider, Source};
use crate::api::metric_provider::MetricProviderSpec;

/// A server on a free port that ends with the test.
struct Fake {
    address: String,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(router: Router) -> Fake {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Fake { address, task }
}

/// Answers each query of `answers` with its status and body.
async fn fake(answers: &[(&str, u16, &str)]) -> Fake {
    let answers: BTreeMap<String, (u16, String)> = answers
        .iter()
        .map(|(query, status, body)| ((*query).to_owned(), (*status, (*body).to_owned())))
        .collect();
    let handler = move |body: String| async move {
        let form = reqwest::Url::parse(&format!("http://form/?{body}")).unwrap();
        let asked = form.query_pairs().find(|(name, _)| name == "query").unwrap().1;
        let (status, body) = answers.get(asked.as_ref()).unwrap().clone();
        (StatusCode::from_u16(status).unwrap(), body)
    };
    serve(Router::new().route("/prefix/api/v1/query", post(handler))).await
}

fn query(text: &str, source: Source) -> Query {
    Query { metric: "m".to_owned(), namespace: "shop".to_owned(), source, text: text.to_owned() }
}

fn inline(address: &str) -> Source {
    Source { address: Some(address.to_owned()), ..Source::default() }
}

fn pool(catalog: Catalog) -> Pool {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Pool::new(catalog).unwrap()
}

async fn ask(text: &str, source: Source) -> Result<Answer, ProviderError> {
    pool(Catalog::default()).query(&query(text, source)).await
}

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
        ("histogram", ErrorKind::Malformed, "native histograms are not supported"),
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

/// Answers with the headers it got, as an error text.
async fn echo() -> Fake {
    let handler = |headers: HeaderMap| async move {
        let shown = ["authorization", "x-scope-orgid"]
            .map(|name| headers.get(name).map_or("-", |v| v.to_str().unwrap()).to_owned());
        (StatusCode::BAD_REQUEST, shown.join(" "))
    };
    serve(Router::new().fallback(handler)).await
}

#[tokio::test]
async fn credentials_and_headers_come_from_the_provider_that_is_named() {
    let server = echo().await;
    let spec = |auth: serde_json::Value| -> MetricProviderSpec {
        serde_json::from_value(serde_json::json!({
            "address": server.address, "auth": auth,
            "headers": [{"key": "X-Scope-OrgID", "value": "team"}],
        }))
        .unwrap()
    };
    let secret = |at: &crate::api::common::SecretKeyRef| {
        (at.name == "creds").then(|| format!("value-of-{}", at.key))
    };
    let key = |name: &str| serde_json::json!({"name": name, "key": "token"});
    let bearer = Server::from_spec(&spec(serde_json::json!({"bearer": key("creds")})), secret);
    let basic = serde_json::json!({"basic": {"username": "me", "password": key("creds")}});
    let basic = Server::from_spec(&spec(basic), secret);
    let missing = Server::from_spec(&spec(serde_json::json!({"bearer": key("nope")})), secret);
    let entry = |name: &str| ("shop".to_owned(), name.to_owned());
    let pool = pool(Catalog {
        namespaced: BTreeMap::from([(entry("a"), bearer), (entry("b"), missing)]),
        cluster: BTreeMap::from([("a".to_owned(), basic)]),
        default: None,
    });
    for (name, cluster, words) in [
        ("a", false, "Bearer value-of-token team"),
        ("a", true, "Basic bWU6dmFsdWUtb2YtdG9rZW4= team"),
        ("b", false, "MetricProvider \"b\": Secret \"nope\" has no key \"token\""),
        ("c", false, "MetricProvider \"c\" not found in namespace \"shop\""),
        ("c", true, "ClusterMetricProvider \"c\" not found"),
    ] {
        let named = Some(NamedProvider { name: name.to_owned(), cluster });
        let asked = query("q", Source { named, ..Source::default() });
        let error = pool.query(&asked).await.unwrap_err();
        assert!(error.to_string().contains(words), "{name}: {error}");
    }
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

#[test]
fn credentials_are_never_printed() {
    let auth = [Auth::Basic("me".into(), "secret".into()), Auth::Bearer("secret".into())];
    assert_eq!(format!("{auth:?}"), "[Basic(..), Bearer(..)]");
}
