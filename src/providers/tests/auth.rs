//! Providers by name: their Secrets, every kind of credentials, and certificates.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use super::*;
use crate::clock::{Clock, SimClock};

/// A cluster that holds Secrets, and what was asked of it.
#[derive(Clone, Default)]
struct Secrets {
    held: Arc<Mutex<BTreeMap<String, (u16, Value)>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Secrets {
    fn put(&self, namespace: &str, name: &str, keys: &[(&str, &str)]) {
        let data: BTreeMap<_, _> = keys
            .iter()
            .map(|(key, value)| {
                ((*key).to_owned(), k8s_openapi::ByteString(value.as_bytes().to_vec()))
            })
            .collect();
        let secret = json!({"metadata": {"name": name, "namespace": namespace}, "data": data});
        self.answer(namespace, name, 200, secret);
    }

    fn answer(&self, namespace: &str, name: &str, status: u16, body: Value) {
        let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
        self.held.lock().unwrap().insert(path, (status, body));
    }

    fn client(&self) -> kube::Client {
        let this = self.clone();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let path = request.uri().path().to_owned();
            this.asked.lock().unwrap().push(format!("{} {path}", request.method()));
            let missing = json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
                "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found"});
            let held = this.held.lock().unwrap();
            let (status, body) = held.get(&path).cloned().unwrap_or((404, missing));
            let body = kube::client::Body::from(body.to_string().into_bytes());
            let answer = http::Response::builder().status(status).body(body).unwrap();
            async move { Ok::<_, std::convert::Infallible>(answer) }
        });
        kube::Client::new(service, "default")
    }

    fn pool(&self) -> Pool {
        self.pool_at(Arc::new(crate::clock::SystemClock))
    }

    fn pool_at(&self, clock: Arc<dyn Clock>) -> Pool {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cluster = Some((self.client(), "sluice-system".to_owned()));
        Pool::made(Catalog::default(), cluster, clock).unwrap()
    }
}

fn spec(value: Value) -> MetricProviderSpec {
    serde_json::from_value(value).unwrap()
}

fn id(namespace: Option<&str>, name: &str) -> ProviderId {
    ProviderId { namespace: namespace.map(str::to_owned), name: name.to_owned() }
}

/// A question to the MetricProvider of that name in `shop`, or to the cluster's.
fn to(name: &str, cluster: bool) -> Query {
    // Every question is another one, so that none is answered for another.
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let named = Some(NamedProvider { name: name.to_owned(), cluster });
    let text = format!("q{}", ASKED.fetch_add(1, Ordering::SeqCst));
    query(&text, Source { named, ..Source::default() })
}

async fn refusal(pool: &Pool, name: &str, cluster: bool) -> String {
    pool.query(&to(name, cluster)).await.unwrap_err().to_string()
}

/// Answers with the headers it got, as an error text.
async fn echo() -> Fake {
    let handler = |headers: HeaderMap| async move {
        let shown = ["authorization", "x-scope-orgid", "dd-api-key", "dd-application-key"]
            .map(|name| headers.get(name).map_or("-", |v| v.to_str().unwrap()).to_owned());
        (StatusCode::BAD_REQUEST, shown.join(" "))
    };
    serve(Router::new().fallback(handler)).await
}

fn key(name: &str, key: &str) -> Value {
    json!({"name": name, "key": key})
}

#[tokio::test]
async fn credentials_and_headers_come_from_the_provider_that_is_named() {
    let server = echo().await;
    let secrets = Secrets::default();
    secrets.put("shop", "creds", &[("token", "shops-token\n"), ("a", "A"), ("b", "B")]);
    secrets.put("sluice-system", "creds", &[("token", "the-controllers")]);
    let pool = secrets.pool();
    let with = |auth: Value| {
        spec(json!({"address": server.address, "auth": auth,
            "headers": [{"key": "X-Scope-OrgID", "value": "team"}]}))
    };
    let basic = json!({"basic": {"username": "me", "password": key("creds", "token")}});
    let two = json!({"headers": [{"key": "DD-API-KEY", "valueFrom": key("creds", "a")},
                                 {"key": "DD-APPLICATION-KEY", "valueFrom": key("creds", "b")}]});
    for (namespace, name, auth) in [
        (Some("shop"), "bearer", json!({"bearer": key("creds", "token")})),
        (Some("shop"), "basic", basic),
        (Some("shop"), "two", two),
        (Some("shop"), "nobody", json!({"bearer": key("nobody", "token")})),
        (Some("shop"), "keyless", json!({"bearer": key("creds", "other")})),
        (Some("other"), "elsewhere", json!({"bearer": key("creds", "token")})),
        (None, "bearer", json!({"bearer": key("creds", "token")})),
    ] {
        pool.learn(&id(namespace, name), Some(&with(auth)));
    }
    for (name, cluster, words) in [
        ("bearer", false, "Bearer shops-token team"),
        ("bearer", true, "Bearer the-controllers team"),
        ("basic", false, "Basic bWU6c2hvcHMtdG9rZW4= team"),
        ("two", false, "- team A B"),
        (
            "nobody",
            false,
            "MetricProvider \"nobody\": Secret \"nobody\" in namespace \"shop\" not found: create it",
        ),
        ("keyless", false, "Secret \"creds\" in namespace \"shop\" has no key \"other\""),
        ("elsewhere", false, "MetricProvider \"elsewhere\" not found in namespace \"shop\""),
        ("c", true, "ClusterMetricProvider \"c\" not found: create it"),
    ] {
        let error = refusal(&pool, name, cluster).await;
        assert!(error.contains(words), "{name}: {error}");
    }
    let asked = secrets.asked.lock().unwrap().join("\n");
    assert!(!asked.contains("/other/"), "a Secret of another namespace was read: {asked}");
    assert!(asked.lines().all(|line| line.starts_with("GET /api/v1/namespaces/")), "{asked}");
}

#[tokio::test]
async fn a_provider_that_appears_changes_or_goes_is_what_the_next_query_sees() {
    let server = echo().await;
    let pool = Secrets::default().pool();
    assert!(refusal(&pool, "late", false).await.contains("not found in namespace \"shop\""));
    let id = id(Some("shop"), "late");
    let at = |address: &str| spec(json!({"address": address}));
    pool.learn(&id, Some(&at("nonsense")));
    assert!(refusal(&pool, "late", false).await.contains("prometheus address is not is url"));
    pool.learn(&id, Some(&at(&server.address)));
    assert!(refusal(&pool, "late", false).await.contains("400 Bad Request: - - - -"));
    pool.learn(&id, None);
    assert!(refusal(&pool, "late", false).await.contains("not found"));
}

#[tokio::test]
async fn a_secret_that_appears_heals_the_provider_and_is_read_once_for_many() {
    let secrets = Secrets::default();
    let clock = Arc::new(SimClock::at(jiff::Timestamp::UNIX_EPOCH));
    let pool = secrets.pool_at(clock.clone());
    let later = || clock.advance_to(clock.now() + SignedDuration::from_secs(10));
    let bearer =
        json!({"address": "http://127.0.0.1:1", "auth": {"bearer": key("creds", "token")}});
    pool.learn(&id(Some("shop"), "p"), Some(&spec(bearer)));
    for _ in 0..5 {
        assert!(refusal(&pool, "p", false).await.contains("not found: create it there"));
    }
    assert_eq!(secrets.asked.lock().unwrap().len(), 1);
    let forbidden = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "code": 403,
        "status": "Failure", "reason": "Forbidden", "message": "no"});
    secrets.answer("shop", "creds", 403, forbidden);
    later();
    assert!(refusal(&pool, "p", false).await.contains("bind the ClusterRole sluice-secrets"));
    secrets.put("shop", "creds", &[("token", "t")]);
    later();
    assert!(!refusal(&pool, "p", false).await.contains("Secret"));
}

#[tokio::test]
async fn credentials_that_are_refused_are_read_again() {
    let handler = |headers: HeaderMap| async move {
        let good = headers.get("authorization").is_some_and(|value| value == "Bearer new");
        let body = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"#;
        if good { (StatusCode::OK, body) } else { (StatusCode::UNAUTHORIZED, "expired") }
    };
    let server = serve(Router::new().fallback(handler)).await;
    let secrets = Secrets::default();
    secrets.put("shop", "creds", &[("token", "old")]);
    let pool = secrets.pool();
    let bearer = json!({"address": server.address, "auth": {"bearer": key("creds", "token")}});
    pool.learn(&id(Some("shop"), "p"), Some(&spec(bearer)));
    assert!(refusal(&pool, "p", false).await.contains("expired: check the credentials"));
    secrets.put("shop", "creds", &[("token", "new")]);
    assert_eq!(pool.query(&to("p", false)).await.unwrap().sample, Sample::Value(1.0));
}

/// A server with a token endpoint that gives `t1`, `t2`, ...; only the newest is taken.
async fn granting(granted: Arc<Mutex<Vec<String>>>) -> Fake {
    let newest = Arc::clone(&granted);
    let token = move |headers: HeaderMap, body: String| async move {
        let mut granted = granted.lock().unwrap();
        let auth = headers.get("authorization").map_or("", |value| value.to_str().unwrap());
        granted.push(format!("{auth} {body}"));
        let refused = body.contains("scope=never");
        let body = json!({"access_token": format!("t{}", granted.len()), "expires_in": "3600"});
        match refused {
            true => (StatusCode::UNAUTHORIZED, "no".to_owned()),
            false => (StatusCode::OK, body.to_string()),
        }
    };
    let api = move |headers: HeaderMap| async move {
        let wanted = format!("Bearer t{}", newest.lock().unwrap().len());
        let body = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"#;
        let good = headers.get("authorization").is_some_and(|value| *value == *wanted);
        if good { (StatusCode::OK, body) } else { (StatusCode::UNAUTHORIZED, "expired") }
    };
    serve(Router::new().route("/token", post(token)).fallback(api)).await
}

#[tokio::test]
async fn oauth2_asks_for_one_token_and_for_another_when_it_is_refused() {
    let granted = Arc::default();
    let server = granting(Arc::clone(&granted)).await;
    let secrets = Secrets::default();
    secrets.put("shop", "creds", &[("secret", "s")]);
    let pool = secrets.pool();
    let with = |scopes: &[&str]| {
        spec(json!({"address": server.address, "auth": {"oauth2": {
            "tokenUrl": format!("{}/token", server.address), "clientId": "me",
            "clientSecret": key("creds", "secret"), "scopes": scopes}}}))
    };
    pool.learn(&id(Some("shop"), "p"), Some(&with(&["read", "x"])));
    for _ in 0..3 {
        assert_eq!(pool.query(&to("p", false)).await.unwrap().sample, Sample::Value(1.0));
    }
    let form = "Basic bWU6cw== grant_type=client_credentials&scope=read+x".to_owned();
    assert_eq!(*granted.lock().unwrap(), [form]);
    granted.lock().unwrap().push("somebody else's, which makes ours old".to_owned());
    assert!(refusal(&pool, "p", false).await.contains("expired"));
    assert_eq!(pool.query(&to("p", false)).await.unwrap().sample, Sample::Value(1.0));
    pool.learn(&id(Some("shop"), "p"), Some(&with(&["never"])));
    let error = refusal(&pool, "p", false).await;
    assert!(error.contains("oauth2: cannot fetch token: 401 Unauthorized"), "{error}");
    // Our secret goes to nobody who is not verified, however the server itself is asked.
    let mut careless = with(&["read"]);
    careless.tls = serde_json::from_value(json!({"insecureSkipVerify": true})).unwrap();
    let issuer = careless.auth.as_mut().and_then(|auth| auth.oauth2.as_mut()).unwrap();
    issuer.token_url = format!("https://127.0.0.1:{}/token", tls_server());
    pool.learn(&id(Some("shop"), "p"), Some(&careless));
    let error = refusal(&pool, "p", false).await;
    assert!(error.contains("invalid peer certificate"), "{error}");
}

#[tokio::test]
async fn oauth2_says_who_asks_in_the_way_that_the_issuer_takes_and_remembers_it() {
    let by_header = "Basic YStiOmElMkJiJTJGYyUzRA== grant_type=client_credentials";
    let by_form = " grant_type=client_credentials&client_id=a+b&client_secret=a%2Bb%2Fc%3D";
    for (takes, asked) in
        [(by_header, vec![by_header, by_header]), (by_form, vec![by_header, by_form, by_form])]
    {
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&log);
        let token = move |headers: HeaderMap, body: String| async move {
            let auth = headers.get("authorization").map_or("", |value| value.to_str().unwrap());
            let asked = format!("{auth} {body}");
            seen.lock().unwrap().push(asked.clone());
            // It is over at once.
            let granted = r#"{"access_token": "t", "expires_in": 1}"#;
            if asked == takes {
                (StatusCode::OK, granted)
            } else {
                (StatusCode::BAD_REQUEST, r#"{"error": "invalid_client"}"#)
            }
        };
        let api =
            || async { r#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"# };
        let server = serve(Router::new().route("/token", post(token)).fallback(api)).await;
        let login = crate::analysis::Login::OAuth2 {
            token_url: format!("{}/token", server.address),
            client_id: "a b".into(),
            client_secret: "a+b/c=".into(),
            scopes: Vec::new(),
        };
        let pool = super::pool(Catalog::default());
        for text in ["q1", "q2"] {
            let source = Source { login: login.clone(), ..inline(&server.address) };
            assert_eq!(pool.query(&query(text, source)).await.unwrap().sample, Sample::Value(1.0));
        }
        assert_eq!(*log.lock().unwrap(), asked);
    }
}

#[tokio::test]
async fn sigv4_signs_with_the_secrets_key_and_inline_credentials_work_too() {
    let server = echo().await;
    let secrets = Secrets::default();
    secrets.put("shop", "aws", &[("id", "AKID"), ("key", "secret")]);
    let pool = secrets.pool();
    let sigv4 = json!({"address": server.address, "auth": {"sigv4": {"region": "eu-west-1",
        "accessKeyId": key("aws", "id"), "secretAccessKey": key("aws", "key")}}});
    pool.learn(&id(Some("shop"), "p"), Some(&spec(sigv4)));
    let error = refusal(&pool, "p", false).await;
    assert!(error.contains("AWS4-HMAC-SHA256 Credential=AKID/"), "{error}");
    assert!(error.contains("/eu-west-1/aps/aws4_request, SignedHeaders=content-type;host;"));

    let login = crate::analysis::Login::Basic { user: "me".into(), password: "pw".into() };
    let error = ask("q", Source { login, ..inline(&server.address) }).await.unwrap_err();
    assert!(error.to_string().contains("Basic bWU6cHc="), "{error}");
}

#[tokio::test]
async fn a_template_cannot_change_the_tenant_or_the_language_of_a_provider() {
    let server = echo().await;
    let pool = Secrets::default().pool();
    let tenant = json!({"address": server.address,
        "headers": [{"key": "X-Scope-OrgID", "value": "team"}]});
    pool.learn(&id(Some("shop"), "p"), Some(&spec(tenant)));
    let mut asked = to("p", false);
    asked.source.headers = vec![("x-scope-orgid".to_owned(), "others".to_owned())];
    let error = pool.query(&asked).await.unwrap_err().to_string();
    assert!(error.contains("- team - -"), "{error}");
    let datadog = json!({"address": server.address, "type": "Datadog"});
    pool.learn(&id(Some("shop"), "p"), Some(&spec(datadog)));
    let error = refusal(&pool, "p", false).await;
    assert!(error.contains("has type Datadog and the metric asks Prometheus"), "{error}");
}

/// One answer for each connection, over TLS, for clients whose certificate the CA signed.
fn tls_server() -> u16 {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certs(include_str!("tls/ca.pem")).remove(0)).unwrap();
    let clients = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let config = rustls::ServerConfig::builder().with_client_cert_verifier(clients);
    tls_at("127.0.0.1", config, Arc::default())
}

fn certs(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

/// What a TLS server saw: the name that it was asked for, and the request.
type Seen = Arc<Mutex<Vec<(Option<String>, String)>>>;

/// The certificate is of `localhost` and 127.0.0.1, wherever it listens.
fn tls_at(
    host: &str,
    config: rustls::ConfigBuilder<rustls::ServerConfig, rustls::server::WantsServerCert>,
    seen: Seen,
) -> u16 {
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).unwrap();
    let config = config.with_single_cert(certs(include_str!("tls/server.pem")), key).unwrap();
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind((host, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = rustls::Stream::new(&mut session, &mut stream);
            let mut buffer = [0_u8; 4096];
            let read = tls.read(&mut buffer).unwrap_or(0);
            if read > 0 {
                let head = String::from_utf8_lossy(&buffer[..read]).to_lowercase();
                let name = tls.conn.server_name().map(str::to_owned);
                seen.lock().unwrap().push((name, head));
                let body =
                    r#"{"status":"success","data":{"resultType":"scalar","result":[1,"7"]}}"#;
                let length = body.len();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n");
                let _ = tls.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes());
            }
        }
    });
    port
}

#[tokio::test]
async fn the_authority_and_our_own_certificate_come_from_secrets() {
    let secrets = Secrets::default();
    secrets.put(
        "shop",
        "tls",
        &[
            ("ca.crt", include_str!("tls/ca.pem")),
            ("tls.crt", include_str!("tls/client.pem")),
            ("tls.key", include_str!("tls/client.key")),
            ("broken", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"),
            ("empty", "nothing"),
        ],
    );
    let pool = secrets.pool();
    let address = format!("https://127.0.0.1:{}", tls_server());
    let tls = |tls: Value| spec(json!({"address": address, "tls": tls}));
    let both = json!({"ca": key("tls", "ca.crt"), "cert": key("tls", "tls.crt"),
        "key": key("tls", "tls.key")});
    for (name, tls) in [
        ("good", tls(both)),
        (
            "careless",
            tls(json!({"insecureSkipVerify": true, "cert": key("tls", "tls.crt"),
            "key": key("tls", "tls.key")})),
        ),
        ("no-ca", tls(json!({}))),
        ("no-cert", tls(json!({"ca": key("tls", "ca.crt")}))),
        ("broken", tls(json!({"ca": key("tls", "broken")}))),
        ("empty", tls(json!({"ca": key("tls", "empty")}))),
    ] {
        pool.learn(&id(Some("shop"), name), Some(&tls));
    }
    for name in ["good", "careless"] {
        assert_eq!(pool.query(&to(name, false)).await.unwrap().sample, Sample::Value(7.0));
    }
    // A template's own `insecure` trusts the server too, which then asks for our certificate.
    let source = Source { insecure: true, ..inline(&address) };
    let error = ask("q", source).await.unwrap_err().to_string();
    assert!(error.contains("CertificateRequired"), "{error}");
    for (name, words) in [
        ("no-ca", "invalid peer certificate"),
        ("no-cert", "CertificateRequired"),
        ("broken", "tls.ca"),
        ("empty", "tls.ca holds no certificate"),
    ] {
        let error = refusal(&pool, name, false).await;
        assert!(error.contains(words), "{name}: {error}");
    }
    let error = refusal(&pool, "no-ca", false).await;
    assert!(error.contains("TLS failed: name a MetricProvider with tls.ca"), "{error}");
}

#[tokio::test]
async fn a_server_whose_certificate_carries_another_name_is_asked_for_that_name() {
    let secrets = Secrets::default();
    let ca = ("ca.crt", include_str!("tls/ca.pem"));
    secrets.put("shop", "tls", &[ca, ("id", "AKID"), ("key", "secret")]);
    let pool = secrets.pool();
    let seen = Seen::default();
    // The certificate says localhost and 127.0.0.1, and not where the server is.
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let host = format!("127.0.0.2:{}", tls_at("127.0.0.2", config, Arc::clone(&seen)));
    let learn = |name: &str, address: &str, server_name: Value, auth: Value| {
        let tls = json!({"ca": key("tls", "ca.crt"), "serverName": server_name});
        let spec = spec(json!({"address": address, "tls": tls, "auth": auth}));
        pool.learn(&id(Some("shop"), name), Some(&spec));
    };
    let address = format!("https://{host}");
    let sigv4 = json!({"sigv4": {"region": "eu-west-1",
        "accessKeyId": key("tls", "id"), "secretAccessKey": key("tls", "key")}});
    learn("named", &address, json!("localhost"), Value::Null);
    learn("signed", &address, json!("localhost"), sigv4);
    for name in ["named", "signed"] {
        assert_eq!(pool.query(&to(name, false)).await.unwrap().sample, Sample::Value(7.0));
        let (asked, head) = seen.lock().unwrap().pop().unwrap();
        assert_eq!(asked.as_deref(), Some("localhost"));
        assert!(head.contains(&format!("\r\nhost: {host}\r\n")), "{head}");
    }
    learn("unnamed", &address, Value::Null, Value::Null);
    learn("other", &address, json!("prometheus.example"), Value::Null);
    for (name, wanted) in [("unnamed", "127.0.0.2"), ("other", "prometheus.example")] {
        let error = refusal(&pool, name, false).await;
        for words in [
            format!("not valid for name \"{wanted}\""),
            "TLS failed: write a name that the certificate carries as tls.serverName".to_owned(),
        ] {
            assert!(error.contains(&words), "{name}: {error}");
        }
    }
    assert!(seen.lock().unwrap().is_empty(), "a request was sent to a server that is another one");
    for (address, name, words) in [
        (address.as_str(), "127.0.0.1", "write a DNS name of the server's certificate"),
        (address.as_str(), "a b", "write a DNS name of the server's certificate"),
        ("http://127.0.0.2", "localhost", "there is no TLS at an http address"),
    ] {
        learn("wrong", address, json!(name), Value::Null);
        let error = refusal(&pool, "wrong", false).await;
        assert!(error.contains("tls.serverName") && error.contains(words), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_said_to_be_one() {
    let error = ask("q", inline("http://prometheus.invalid:9090")).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unreachable(_)), "{error:?}");
    assert!(error.to_string().contains("the name is not known here"), "{error}");
}

#[test]
fn credentials_are_never_printed() {
    let client = OAuth2Client { client_secret: "secret".into(), ..OAuth2Client::default() };
    let role = AwsRole { key: Some(("id".into(), "secret".into())), ..AwsRole::default() };
    let auth = [
        Auth::Basic("me".into(), "secret".into()),
        Auth::Bearer("secret".into()),
        Auth::OAuth2(client),
        Auth::SigV4(role),
    ];
    assert_eq!(format!("{auth:?}"), "[Basic(..), Bearer(..), OAuth2(..), SigV4(..)]");
    let login = crate::analysis::Login::Basic { user: "me".into(), password: "secret".into() };
    assert!(!format!("{:?}", query("q", Source { login, ..Source::default() })).contains("secret"));
}
