//! Where an AWS key comes from, each way as Amazon documents it, with a local server for STS and for a
//! container's endpoint.

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::Uri;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::*;
use crate::analysis::Login;
use crate::clock::{Clock, SimClock};
use crate::providers::aws::{Aws, AwsRole};
use crate::providers::catalog::Servers;

/// When the temporary keys of the local server expire.
const EXPIRES: &str = "2026-01-01T01:00:00Z";

/// What was asked: method, path and query, `Authorization`, body.
type Asked = Arc<Mutex<Vec<[String; 4]>>>;

/// STS below `/sts`, a container's endpoint at `/container`; `answer` instead of both when it is given.
async fn amazon(asked: Asked, answer: Option<(u16, &'static str)>) -> Fake {
    let handler = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| async move {
        let auth = headers.get("authorization").map_or("", |v| v.to_str().unwrap()).to_owned();
        let body = String::from_utf8(body.to_vec()).unwrap();
        let mut asked = asked.lock().unwrap();
        asked.push([method.to_string(), uri.to_string(), auth, body]);
        let id = format!("ASIA{}", asked.len());
        if let Some((status, body)) = answer {
            return (StatusCode::from_u16(status).unwrap(), body.to_owned());
        }
        let body = if uri.path() == "/container" {
            json!({"AccessKeyId": id, "SecretAccessKey": "c", "Token": "ct",
                "Expiration": EXPIRES, "RoleArn": "arn"})
            .to_string()
        } else {
            format!(
                "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>{id}</AccessKeyId>\
                 <SecretAccessKey>s</SecretAccessKey><SessionToken>st</SessionToken>\
                 <Expiration>{EXPIRES}</Expiration></Credentials></AssumeRoleResult>\
                 </AssumeRoleResponse>"
            )
        };
        (StatusCode::OK, body)
    };
    serve(Router::new().fallback(handler)).await
}

/// AWS with these variables.
fn aws(variables: &[(&str, &str)]) -> Aws {
    Aws::new(variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
}

fn role() -> AwsRole {
    AwsRole { region: "eu-west-1".into(), ..AwsRole::default() }
}

/// Id, secret and token of the key, at the beginning of 2026.
async fn key(aws: &Aws, role: &AwsRole) -> Result<[String; 3], String> {
    key_at(aws, role, &SimClock::at("2026-01-01T00:00:00Z".parse().unwrap())).await
}

async fn key_at(aws: &Aws, role: &AwsRole, clock: &dyn Clock) -> Result<[String; 3], String> {
    let key = aws.key(&reqwest::Client::new(), role, clock).await.map_err(|e| e.to_string())?;
    Ok([key.id, key.secret, key.token.unwrap_or_default()])
}

#[tokio::test]
async fn a_key_comes_from_the_first_that_has_one() {
    let asked = Asked::default();
    let server = amazon(asked.clone(), None).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let at = folder.path().join(name);
        std::fs::write(&at, text).unwrap();
        at.to_str().unwrap().to_owned()
    };
    let token = file("token", "jwt\n");
    let credentials = file(
        "credentials",
        "[other]\naws_access_key_id = O\naws_secret_access_key = o\n\n[ team ]\n\
         aws_access_key_id=P\naws_secret_access_key = p=\naws_session_token = pt\n",
    );
    let (sts, container) =
        (format!("{}/sts", server.address), format!("{}/container", server.address));
    let mut variables = vec![
        ("AWS_SHARED_CREDENTIALS_FILE", credentials.as_str()),
        ("AWS_ENDPOINT_URL_STS", &sts),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &container),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token),
        ("AWS_ROLE_ARN", "arn:web"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
        ("AWS_SESSION_TOKEN", "et"),
        ("AWS_SECRET_ACCESS_KEY", "e"),
        ("AWS_ACCESS_KEY_ID", "E"),
    ];
    let own = |id: &str, secret: &str, token: &str| Ok([id.into(), secret.into(), token.into()]);
    let everything = aws(&variables);
    let secret = AwsRole { key: Some(("S".into(), "s".into())), ..role() };
    let team = AwsRole { profile: Some("team".into()), ..role() };
    assert_eq!(key(&everything, &secret).await, own("S", "s", ""));
    assert_eq!(key(&everything, &team).await, own("P", "p=", "pt"));
    assert_eq!(key(&everything, &role()).await, own("E", "e", "et"));
    assert!(asked.lock().unwrap().is_empty());

    variables.truncate(6);
    assert_eq!(key(&aws(&variables), &role()).await, own("ASIA1", "s", "st"), "IRSA");
    let form = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aweb\
                &RoleSessionName=sluice&WebIdentityToken=jwt";
    assert_eq!(asked.lock().unwrap()[0], ["POST", "/sts", "", form]);
    variables.truncate(4);
    assert_eq!(key(&aws(&variables), &role()).await, own("ASIA2", "c", "ct"), "Pod Identity");
    assert_eq!(asked.lock().unwrap()[1], ["GET", "/container", "jwt", ""]);
    let error = key(&aws(&[]), &role()).await.unwrap_err();
    assert!(error.contains("no AWS credentials: give the controller a web identity"), "{error}");
}

#[test]
fn an_address_is_that_of_the_environment_or_amazons_own_which_differs_in_china() {
    let own = aws(&[]);
    let ask = |region| own.endpoint("STS", "sts", region);
    assert_eq!(ask("eu-west-1"), "https://sts.eu-west-1.amazonaws.com/");
    assert_eq!(ask("us-gov-west-1"), "https://sts.us-gov-west-1.amazonaws.com/");
    assert_eq!(ask("cn-north-1"), "https://sts.cn-north-1.amazonaws.com.cn/");
    let told = aws(&[("AWS_ENDPOINT_URL_STS", "http://localhost:4566")]);
    assert_eq!(told.endpoint("STS", "sts", "cn-north-1"), "http://localhost:4566");
}

#[tokio::test]
async fn amazons_prometheus_is_signed_for_in_the_region_of_the_template_its_address_or_ours() {
    let clock = Arc::new(SimClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
    let servers = Servers::new(Catalog::default(), None, clock);
    let ours = aws(&[("AWS_REGION", "us-east-1")]);
    let role = |region: &str| Login::SigV4 {
        region: region.to_owned(),
        profile: None,
        role_arn: Some("arn".to_owned()),
    };
    let workspace = "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1";
    for (address, login, region) in [
        (workspace, Login::None, "eu-west-1"),
        (workspace, role(""), "eu-west-1"),
        (workspace, role("eu-north-1"), "eu-north-1"),
        ("https://aps-workspaces", Login::None, "us-east-1"),
        ("http://prometheus:9090", role(""), "us-east-1"),
        ("http://prometheus:9090", Login::None, ""),
    ] {
        let source = Source { login: login.clone(), ..inline(address) };
        let server = servers.of(&query("q", source), &ours).await.unwrap();
        let signs = match server.auth {
            Auth::SigV4(role) => role.region,
            _ => String::new(),
        };
        assert_eq!(signs, region, "{address} {login:?}");
    }
    let mut own = inline(workspace);
    own.headers = vec![("Authorization".to_owned(), "Bearer t".to_owned())];
    let server = servers.of(&query("q", own), &ours).await.unwrap();
    assert!(matches!(server.auth, Auth::None), "who brings credentials keeps them");
    let source = Source { login: role(""), ..inline("http://prometheus:9090") };
    let error = servers.of(&query("q", source), &aws(&[])).await.unwrap_err();
    assert!(error.to_string().contains("no AWS region: set AWS_REGION"), "{error}");
}

#[tokio::test]
async fn a_role_is_assumed_with_a_signed_request_and_kept_until_shortly_before_it_expires() {
    let asked = Asked::default();
    let server = amazon(asked.clone(), None).await;
    let aws = aws(&[("AWS_ENDPOINT_URL_STS", &format!("{}/sts", server.address))]);
    let role = AwsRole {
        key: Some(("S".into(), "s".into())),
        role_arn: Some("arn:aws:iam::1:role/read".into()),
        ..role()
    };
    let clock = SimClock::at("2026-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(key_at(&aws, &role, &clock).await.unwrap(), ["ASIA1", "s", "st"]);
    let [method, url, auth, _] = asked.lock().unwrap()[0].clone();
    let query = "/sts?Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole\
                 %2Fread&RoleSessionName=sluice";
    assert_eq!((method.as_str(), url.as_str()), ("GET", query));
    let signed = "AWS4-HMAC-SHA256 Credential=S/20260101/eu-west-1/sts/aws4_request, ";
    assert!(auth.starts_with(signed), "{auth}");
    // Its last five minutes are not used.
    let expires: Timestamp = EXPIRES.parse().unwrap();
    for (before, id) in [(301, "ASIA1"), (300, "ASIA2")] {
        clock.advance_to(expires - SignedDuration::from_secs(before));
        assert_eq!(key_at(&aws, &role, &clock).await.unwrap()[0], id, "{before} s before");
    }
}

#[tokio::test]
async fn what_amazon_refuses_and_what_is_missing_is_said_without_the_credentials() {
    for (answer, words) in [
        (
            (403, "AccessDenied: not yours"),
            "AWS credentials: 403 Forbidden: AccessDenied: not yours",
        ),
        ((500, "later"), "AWS credentials: 500 Internal Server Error: later"),
        ((200, "<html>"), "AWS STS: no key in the answer"),
    ] {
        let server = amazon(Asked::default(), Some(answer)).await;
        let aws = aws(&[("AWS_ENDPOINT_URL_STS", server.address.as_str())]);
        let key_of_ours = Some(("S".into(), "hidden".into()));
        let role = AwsRole { key: key_of_ours, role_arn: Some("arn".into()), ..role() };
        let error = key(&aws, &role).await.unwrap_err();
        assert!(error.contains(words) && !error.contains("hidden"), "{error}");
    }
    let nowhere = [
        ("AWS_SHARED_CREDENTIALS_FILE", "/nowhere"),
        ("AWS_ROLE_ARN", "arn"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token"),
    ];
    let team = AwsRole { profile: Some("team".into()), ..role() };
    for (role, words) in [(team, "AWS profile \"team\": /nowhere: "), (role(), "/nowhere/token: ")]
    {
        let error = key(&aws(&nowhere), &role).await.unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}
