//! Hooks as a receiver sees them: real servers on loopback, good, bad, slow and hanging ones.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use sluice::api::common::SecretKeyRef;
use sluice::api::rollout::HookPoint;
use sluice::clock::SimClock;
use sluice::hooks::{Caller, Http};
use sluice::rollout::{HookAnswer, HookCall};
use sluice::sim::cluster::USER;
use sluice::sim::plugins::api_server;

use crate::example::Example;

const NOW: Timestamp = Timestamp::constant(1_767_225_600, 0);
const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What a server heard, request by request.
type Heard = Arc<Mutex<Vec<String>>>;

/// A server that answers every request with these bytes; nothing: it hangs.
fn serve(answer: Option<String>) -> (String, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let heard = Heard::default();
    let told = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            told.lock().unwrap().push(request(&mut stream));
            match &answer {
                Some(answer) => drop(stream.write_all(answer.as_bytes())),
                None => std::mem::forget(stream),
            }
        }
    });
    (address, heard)
}

/// Head and body of a request.
fn request(stream: &mut impl Read) -> String {
    let mut text = String::new();
    let mut buffer = [0_u8; 4_096];
    loop {
        let read = stream.read(&mut buffer).unwrap_or(0);
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        let length = text.to_lowercase().split("content-length: ").nth(1).map(|rest| {
            rest.split("\r\n").next().unwrap_or_default().parse::<usize>().unwrap_or(0)
        });
        let body = text.split("\r\n\r\n").nth(1).map(str::len);
        if read == 0 || length.zip(body).is_some_and(|(length, body)| body >= length) {
            return text;
        }
    }
}

fn http(status: &str, headers: &str, body: &str) -> Option<String> {
    let length = body.len();
    Some(format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    ))
}

fn call(url: &str) -> HookCall {
    HookCall {
        id: "d1".into(),
        number: 1,
        name: "smoke".into(),
        at: HookPoint::BeforeStep,
        url: url.into(),
        timeout: SignedDuration::from_secs(20),
        body: json!({"name": "web", "id": "d1", "phase": "Progressing", "metadata": {}}),
        bearer: None,
        signature: None,
        ca: None,
    }
}

fn at(key: &str) -> Option<SecretKeyRef> {
    Some(SecretKeyRef { name: "hook".into(), key: key.into() })
}

/// A cluster with the Secret `hook` in the namespace `default`.
fn client() -> kube::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = api_server(Arc::new(SimClock::at(NOW)));
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "hook", "namespace": "default"},
        "data": {
            "token": base64("s3cret"),
            "key": base64(KEY),
            "ca": base64(include_str!("../../src/providers/tests/tls/ca.pem")),
        },
    });
    server.create(USER, secret).unwrap();
    server.client(USER)
}

fn base64(text: &str) -> String {
    serde_json::to_value(k8s_openapi::ByteString(text.as_bytes().to_vec()))
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned()
}

async fn make(call: &HookCall) -> HookAnswer {
    Http::default().call(&client(), "default", call, NOW).await
}

#[tokio::test]
async fn every_way_to_answer_is_one_of_three() {
    let json = "Content-Type: application/json\r\n";
    let error = |m: &str| HookAnswer::Error { message: m.into() };
    for (answer, expected) in [
        (http("200 OK", "", ""), HookAnswer::Ok { message: String::new() }),
        (
            http(
                "200 OK",
                &format!("{json}Retry-After: 7\r\n"),
                r#"{"code":"Processing","reason":"2 of 5"}"#,
            ),
            HookAnswer::Processing {
                message: "2 of 5".into(),
                again: Some(SignedDuration::from_secs(7)),
            },
        ),
        (http("200 OK", json, r#"{"code":"Error","reason":"no"}"#), error("no")),
        (http("200 OK", json, "<html>"), error("its answer is no JSON: <html>")),
        (
            http("500 Internal Server Error", "", "boom"),
            error("it answered 500 Internal Server Error: boom"),
        ),
        (http("200 OK", "", &"x".repeat(100_000)), error("the answer has more than 65536 bytes")),
    ] {
        let (address, heard) = serve(answer);
        assert_eq!(make(&call(&address)).await, expected);
        assert_eq!(heard.lock().unwrap().len(), 1, "asked once");
    }
}

#[tokio::test]
async fn a_redirect_leads_nobody_anywhere() {
    let (elsewhere, stolen) = serve(http("200 OK", "", ""));
    let (address, _) =
        serve(http("307 Temporary Redirect", &format!("Location: {elsewhere}\r\n"), ""));
    let answer = make(&HookCall { bearer: at("token"), ..call(&address) }).await;
    let HookAnswer::Error { message } = answer else { panic!("{answer:?}") };
    assert!(message.contains("redirects are not followed"), "{message}");
    assert_eq!(*stolen.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn one_that_hangs_is_given_up_and_a_dead_one_is_said_to_be_dead() {
    let (address, _) = serve(None);
    let short = SignedDuration::from_millis(300);
    let answer = make(&HookCall { timeout: short, ..call(&address) }).await;
    assert_eq!(answer, HookAnswer::Error { message: "no answer within 300ms".into() });
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}/secret-path");
    let HookAnswer::Error { message } = make(&call(&url)).await else { panic!("an answer") };
    assert!(message.to_lowercase().contains("refused"), "{message}");
    assert!(!message.contains("secret-path"), "an address may hold a token: {message}");
}

#[tokio::test]
async fn a_call_carries_its_identity_a_token_and_a_signature_over_what_was_sent() {
    let (address, heard) = serve(http("200 OK", "", ""));
    let call = HookCall { bearer: at("token"), signature: at("key"), ..call(&address) };
    assert_eq!(make(&call).await, HookAnswer::Ok { message: String::new() });
    let heard = heard.lock().unwrap().remove(0);
    let (head, body) = heard.split_once("\r\n\r\n").unwrap();
    let header = |name: &str| {
        let mut lines = head.lines();
        let line = lines.find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("no {name} in {head}")).to_owned()
    };
    assert_eq!(header("webhook-id"), "d1");
    assert_eq!(header("webhook-timestamp"), NOW.as_second().to_string());
    assert_eq!(header("sluice-call"), "1");
    assert_eq!(header("authorization"), "Bearer s3cret");
    let signed = sluice::hooks::signature(KEY, "d1", NOW.as_second(), body.as_bytes()).unwrap();
    assert_eq!(header("webhook-signature"), signed);
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), call.body);
}

#[tokio::test]
async fn without_its_secret_nothing_is_sent() {
    let (address, heard) = serve(http("200 OK", "", ""));
    for call in [
        HookCall { bearer: at("nokey"), ..call(&address) },
        HookCall { signature: at("nokey"), ..call(&address) },
        HookCall {
            bearer: Some(SecretKeyRef { name: "none".into(), key: "token".into() }),
            ..call(&address)
        },
    ] {
        let HookAnswer::Error { message } = make(&call).await else { panic!("an answer") };
        assert!(message.contains("Secret"), "{message}");
    }
    assert_eq!(*heard.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_body_that_is_too_large_is_not_sent() {
    let (address, heard) = serve(http("200 OK", "", ""));
    let body = json!({"metadata": "x".repeat(70_000)});
    let HookAnswer::Error { message } = make(&HookCall { body, ..call(&address) }).await else {
        panic!("an answer")
    };
    assert!(message.contains("at most 65536"), "{message}");
    assert_eq!(*heard.lock().unwrap(), Vec::<String>::new());
}

fn tls_server() -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pem = include_bytes!("../../src/providers/tests/tls/server.pem");
    let chain = CertificateDer::pem_slice_iter(pem).map(Result::unwrap).collect();
    let key = include_bytes!("../../src/providers/tests/tls/server.key");
    let key = PrivateKeyDer::from_pem_slice(key).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = rustls::Stream::new(&mut session, &mut stream);
            if !request(&mut tls).is_empty() {
                let _ = tls.write_all(http("200 OK", "", "").unwrap().as_bytes());
            }
        }
    });
    format!("https://127.0.0.1:{port}")
}

#[tokio::test]
async fn a_server_is_verified_by_the_authority_that_the_hook_names() {
    let address = tls_server();
    let answer = make(&HookCall { ca: at("ca"), ..call(&address) }).await;
    assert_eq!(answer, HookAnswer::Ok { message: String::new() });
    let HookAnswer::Error { message } = make(&call(&address)).await else { panic!("an answer") };
    assert!(message.contains("name its authority in tls.ca"), "{message}");
    let wrong = HookCall { ca: at("token"), ..call(&address) };
    let HookAnswer::Error { message } = make(&wrong).await else { panic!("an answer") };
    assert!(message.contains("tls.ca"), "{message}");
}

#[tokio::test]
async fn the_example_verifies_its_callers_takes_its_time_and_knows_a_decision_again() {
    let Some(example) =
        Example::start("hook-gate", &[("SIGNING_KEY", KEY), ("TOKEN", "s3cret")]).await
    else {
        return;
    };
    let address = &example.address;
    let client = client();
    let now = sluice::clock::Clock::now(&sluice::clock::SystemClock);
    let hooks = Http::default();
    let signed = |path: &str| HookCall {
        bearer: at("token"),
        signature: at("key"),
        ..call(&format!("{address}{path}"))
    };
    let ask = async |call: &HookCall, now| hooks.call(&client, "default", call, now).await;
    assert_eq!(ask(&signed("/check"), now).await, HookAnswer::Ok { message: String::new() });
    assert_eq!(ask(&signed("/old"), now).await, HookAnswer::Ok { message: String::new() });
    let mut frozen = signed("/check");
    frozen.body["metadata"] = json!({"frozen": "true"});
    let refused = HookAnswer::Error { message: "Frozen: nobody releases web".into() };
    assert_eq!(ask(&frozen, now).await, refused);
    for answer in ["1 of 3", "2 of 3", ""] {
        match ask(&signed("/soak"), now).await {
            HookAnswer::Processing { message, again } => {
                assert_eq!((message.as_str(), again), (answer, Some(SignedDuration::from_secs(1))));
            }
            HookAnswer::Ok { .. } => assert_eq!(answer, ""),
            HookAnswer::Error { message } => panic!("{message}"),
        }
    }
    let stranger = [
        (HookCall { bearer: None, ..signed("/check") }, now),
        (HookCall { signature: None, ..signed("/check") }, now),
        (signed("/check"), now - SignedDuration::from_mins(10)),
    ];
    for (call, now) in stranger {
        let HookAnswer::Error { message } = ask(&call, now).await else { panic!("an answer") };
        assert!(message.contains("401 Unauthorized: who are you?"), "{message}");
    }
}
