//! `provider.web`: what it sends, what it takes of an answer, what it refuses.

use serde_json::json;

use super::asked::*;
use super::*;
use crate::api::metric_provider::ProviderType;

/// Status, body, path, success condition, failure condition, value, phase. `K` is `{"key": ...}`, `P`
/// the path to the value in it.
const WEB: &str = r#"
200 | K"1" | P | asInt(result) > 0 | asInt(result) <= 0 | "1" | Successful
200 | K"0" | P | asInt(result) > 0 | asInt(result) <= 0 | "0" | Failed
200 | K"1.2" | P | asFloat(result) > 1.1 | asFloat(result) <= 0 | "1.2" | Successful
200 | K"1.2" | P | asFloat(result) > 1.1 | asFloat(result) < 1.3 | "1.2" | Failed
200 | K1 | P | result > 0 | result <= 0 | 1 | Successful
200 | K0 | P | result > 0 | result <= 0 | 0 | Failed
200 | K1.1 | P | result > 0 | result <= 0 | 1.1 | Successful
200 | K-1.1 | P | result > 0 | result <= 0 | -1.1 | Failed
200 | K"true" | P | result == "true" | result == "false" | "true" | Successful
200 | K"true" | P | result == "true" | result == "true" | "true" | Failed
200 | Ktrue | P | result == true | result == false | true | Successful
200 | Kfalse | P | result == true | result == false | false | Failed
200 | K[1,2,3,4,5,6] | P | any(result, {# > 5}) | - | [1,2,3,4,5,6] | Successful
200 | K[1,2,3,4,5,6] | P | any(result, {# > 6}) | - | [1,2,3,4,5,6] | Failed
200 | K{"num":1.2,"map":{"b":"x"}} | P | result.map.b == "x" | - | {"map":{"b":"x"},"num":1.2} | Successful
200 | K{"num":1.2} | P | result.num > 1 | result.num > 1 | {"num":1.2} | Failed
300 | K1 | P | true | true | - | Error
200 | - | P | true | - | - | Successful
200 | - | - | result == 'fail123' | - | - | Failed
200 | test: notJson | P | result == 'test: notJson' | - | test: notJson | Successful
200 | OK | - | result == 'fail123' | - | OK | Failed
200 | K"true" | {$.key[0].key2.novalue} | true | true | - | Error
200 | {} | - | true | - | {} | Successful
200 | Knull | P | result == nil | - | null | Successful
200 | Knull | P | (result?.errors ?? 0) < 1 | - | null | Successful
400 | - | - | - | - | - | Error
"#;

#[tokio::test]
async fn a_web_answer_is_judged_as_argo_judges_it() {
    for line in WEB.trim().lines() {
        let [status, body, path, success, failure, value, phase] = cells(line);
        let body = match body.strip_prefix('K') {
            Some(value) => format!(r#"{{"key":[{{"key2":{{"value":{value}}}}}]}}"#),
            None => body.to_owned(),
        };
        let path = if path == "P" { "{$.key[0].key2.value}" } else { path };
        let (server, _) = saying(status.parse().unwrap(), &body).await;
        let web = json!({"url": server.address, "jsonPath": path});
        let metric = json!({"successCondition": success, "failureCondition": failure,
            "provider": {"web": web}});
        let asked = measure(metric).await;
        let phase = phase_of(phase);
        let what = format!("{line}: {}", asked.message);
        assert_eq!((asked.phase, asked.value.as_str()), (phase, value), "{what}");
        let words = match (status, phase) {
            ("300" | "400", _) => format!("received non 2xx response code: {status}"),
            (_, AnalysisPhase::Error) => "Could not find JSONPath in body".to_owned(),
            _ => String::new(),
        };
        assert!(asked.message.contains(&words), "{what}");
    }
}

#[tokio::test]
async fn a_web_answer_is_judged_as_a_whole_without_a_path() {
    for (success, failure, phase) in [
        (C1, "", AnalysisPhase::Successful),
        ("result.a >= 2", "result.a <= 0", AnalysisPhase::Inconclusive),
    ] {
        let (server, _) = saying(200, J1).await;
        let asked = measure(json!({"successCondition": success, "failureCondition": failure,
            "provider": {"web": {"url": server.address}}}))
        .await;
        assert_eq!((asked.phase, asked.value.as_str()), (phase, J1), "{success}");
    }
}

/// Rows 17 and 18 with the names and the path that they have there, 26, and 38 and 39.
#[tokio::test]
async fn a_web_answer_is_cut_out_by_its_path_and_fetched_with_a_token() {
    let body = r#"{"key":{"num":1.2,"bool":true,"mapfield":{"foo":"bar"}}}"#;
    let condition = r#"result.num > 1.1 && result.bool && result.mapfield.foo == "bar""#;
    for (failure, phase) in [("", AnalysisPhase::Successful), (condition, AnalysisPhase::Failed)] {
        let (server, _) = saying(200, body).await;
        let asked = measure(json!({"successCondition": condition, "failureCondition": failure,
            "provider": {"web": {"url": server.address, "jsonPath": "{$.key}"}}}))
        .await;
        let value = r#"{"bool":true,"mapfield":{"foo":"bar"},"num":1.2}"#;
        assert_eq!((asked.phase, asked.value.as_str()), (phase, value), "{}", asked.message);
    }
    let (server, _) = saying(200, "").await;
    let asked = measure(json!({"successCondition": "true",
        "provider": {"web": {"url": server.address}}}))
    .await;
    assert_eq!((asked.phase, asked.value.as_str()), (AnalysisPhase::Successful, ""));
}

/// Gives a token to `me` with the secret `s`, and its answer to whoever shows that token.
async fn granting() -> Fake {
    let token = |headers: HeaderMap| async move {
        let known = headers.get("authorization").is_some_and(|value| value == "Basic bWU6cw==");
        match known {
            true => (StatusCode::OK, r#"{"access_token":"t","expires_in":3600}"#),
            false => (StatusCode::UNAUTHORIZED, "no"),
        }
    };
    let api = |headers: HeaderMap| async move {
        match headers.get("authorization").is_some_and(|value| value == "Bearer t") {
            true => (StatusCode::OK, J1),
            false => (StatusCode::FORBIDDEN, "no token"),
        }
    };
    serve(Router::new().route("/token", post(token)).fallback(api)).await
}

#[tokio::test]
async fn a_web_request_takes_a_token_by_oauth2_as_argos_does() {
    let server = granting().await;
    let token_url = format!("{}/token", server.address);
    for (oauth2, phase, words) in [
        (
            json!({"clientId": "me", "clientSecret": "s", "scopes": ["read"]}),
            AnalysisPhase::Successful,
            "",
        ),
        (json!({"clientId": "me", "clientSecret": "s"}), AnalysisPhase::Successful, ""),
        (
            json!({"clientId": "me", "clientSecret": "wrong"}),
            AnalysisPhase::Error,
            "oauth2: cannot fetch token: 401 Unauthorized",
        ),
        (
            json!({"clientId": "me"}),
            AnalysisPhase::Error,
            "missing mandatory parameter in metric for OAuth2 setup: clientSecret",
        ),
    ] {
        let mut oauth2 = oauth2;
        oauth2["tokenUrl"] = json!(token_url);
        let web = json!({"url": server.address, "authentication": {"oauth2": oauth2}});
        let asked = measure(json!({"successCondition": C1, "provider": {"web": web}})).await;
        assert_eq!(asked.phase, phase, "{oauth2}: {}", asked.message);
        assert!(asked.message.contains(words), "{oauth2}: {}", asked.message);
    }
}

#[tokio::test]
async fn a_web_request_is_what_the_template_writes() {
    let url = |server: &Fake| format!("{}/path?x=1", server.address);
    for (stanza, method, body, content) in [
        (json!({}), "GET", "", "-"),
        (json!({"method": "GET"}), "GET", "", "-"),
        (json!({"method": "POST", "body": "some text"}), "POST", "some text", "-"),
        (json!({"method": "PUT", "body": "x"}), "PUT", "x", "-"),
        (
            json!({"method": "POST", "jsonBody": {"a": [1]}}),
            "POST",
            "{\"a\":[1]}",
            "application/json",
        ),
        (json!({"method": "PUT", "jsonBody": {}}), "PUT", "{}", "application/json"),
    ] {
        let (server, log) = saying(200, J1).await;
        let mut stanza = stanza;
        stanza["url"] = json!(url(&server));
        stanza["headers"] = json!([{"key": "x-a", "value": "b"}]);
        let metric = json!({"successCondition": C1, "provider": {"web": stanza}});
        assert_eq!(measure(metric).await.phase, AnalysisPhase::Successful);
        let sent = log.lock().unwrap()[0].clone();
        let found = (sent.method.as_str(), sent.body.as_str(), sent.header("content-type"));
        assert_eq!(found, (method, body, content));
        assert_eq!((sent.uri.to_string(), sent.header("x-a")), ("/path?x=1".to_owned(), "b"));
    }
}

#[tokio::test]
async fn a_web_stanza_that_cannot_be_meant_is_refused_in_argos_words() {
    for (stanza, words) in [
        (json!({"body": "x"}), "can only be used with POST or PUT WebMetric Method types"),
        (json!({"jsonBody": {}}), "can only be used with POST or PUT WebMetric Method types"),
        (
            json!({"method": "POST", "body": "x", "jsonBody": {}}),
            "use either Body or JSONBody; both cannot exists for WebMetric payload",
        ),
        (json!({"url": "://x"}), "unsupported protocol scheme"),
        (json!({"jsonPath": "{.a[}"}), "jsonPath"),
        (json!({"authentication": {"oauth2": {"tokenUrl": "http://x"}}}), "OAuth2 setup: clientId"),
    ] {
        let mut whole = json!({"url": "http://127.0.0.1:1"});
        whole.as_object_mut().unwrap().extend(stanza.as_object().unwrap().clone());
        let asked = measure(json!({"successCondition": C1, "provider": {"web": whole}})).await;
        assert!(asked.message.contains(words), "{stanza}: {}", asked.message);
    }
}

#[tokio::test]
async fn a_web_providers_credentials_stay_below_its_address() {
    let (server, log) = saying(200, J1).await;
    let pool = provider(ProviderType::Web, &format!("{}/api/", server.address));
    let at = |url: String| json!({"successCondition": C1, "provider": {"ref": "p", "web": {"url": url}}});
    let (_, asked) = measure_with(&pool, at(format!("{}/api/v1?y=2", server.address))).await;
    assert_eq!(asked.phase, AnalysisPhase::Successful, "{}", asked.message);
    assert_eq!(log.lock().unwrap()[0].header("dd-api-key"), "k");
    for url in [
        format!("{}/apis", server.address),
        format!("{}/api/../secret", server.address),
        "http://elsewhere.invalid/api/".to_owned(),
    ] {
        let (_, asked) = measure_with(&pool, at(url.clone())).await;
        assert!(asked.message.contains("its credentials stay there"), "{url}: {}", asked.message);
    }
    assert_eq!(log.lock().unwrap().len(), 1);
}
