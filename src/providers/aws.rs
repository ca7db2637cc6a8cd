//! AWS access keys: from a Secret, a profile, the environment, a web identity (IRSA) or a
//! container's endpoint (EKS Pod Identity, ECS), and with them a role.
//!
//! The machine's own metadata service is not asked: a pod that may reach it has its node's rights.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Client, Url};
use tokio::sync::Mutex as AsyncMutex;

use super::ProviderError;
use super::sigv4::{Key, Signing, sign};
use super::transport::{causes, shorten};
use crate::clock::Clock;

/// A temporary key is not used in its last minutes.
const MARGIN: jiff::SignedDuration = jiff::SignedDuration::from_mins(5);

/// How long AWS may take to give a key.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Who signs, and in which region.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AwsRole {
    /// The region.
    pub region: String,
    /// A profile of the shared credentials file.
    pub profile: Option<String>,
    /// A role that is assumed.
    pub role_arn: Option<String>,
    /// An access key's id and the key.
    pub key: Option<(String, String)>,
}

/// What AWS gave so far, and the environment it is asked for with.
pub(super) struct Aws {
    environment: BTreeMap<String, String>,
    held: Mutex<BTreeMap<AwsRole, (Key, Option<Timestamp>)>>,
    asking: AsyncMutex<()>,
}

impl Default for Aws {
    fn default() -> Self {
        let named = |(name, _): &(String, String)| name.starts_with("AWS_") || name == "HOME";
        let all = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self::new(all.filter(named).collect())
    }
}

impl Aws {
    pub(super) fn new(environment: BTreeMap<String, String>) -> Self {
        Self { environment, held: Mutex::default(), asking: AsyncMutex::default() }
    }

    /// The key of `role`, kept until shortly before it expires.
    ///
    /// # Errors
    /// There is none, or AWS does not give it.
    pub(super) async fn key(
        &self,
        http: &Client,
        role: &AwsRole,
        clock: &dyn Clock,
    ) -> Result<Key, ProviderError> {
        if let Some(key) = self.held(role, clock.now()) {
            return Ok(key);
        }
        let _one = self.asking.lock().await;
        let now = clock.now();
        if let Some(key) = self.held(role, now) {
            return Ok(key);
        }
        let (mut key, mut until) = self.base(http, role).await?;
        if let Some(arn) = &role.role_arn {
            (key, until) = self.assume(http, &role.region, arn, &key, now).await?;
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(role.clone(), (key.clone(), until));
        Ok(key)
    }

    fn held(&self, role: &AwsRole, now: Timestamp) -> Option<Key> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (key, until) = held.get(role)?;
        let good = until.is_none_or(|until| now.saturating_add(MARGIN).is_ok_and(|t| t < until));
        good.then(|| key.clone())
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    async fn base(
        &self,
        http: &Client,
        role: &AwsRole,
    ) -> Result<(Key, Option<Timestamp>), ProviderError> {
        if let Some((id, secret)) = &role.key {
            return Ok((Key { id: id.clone(), secret: secret.clone(), token: None }, None));
        }
        if let Some(profile) = &role.profile {
            return self.profile(profile).await.map(|key| (key, None));
        }
        let var = |name| self.variable(name).map(str::to_owned);
        if let (Some(id), Some(secret)) = (var("AWS_ACCESS_KEY_ID"), var("AWS_SECRET_ACCESS_KEY")) {
            return Ok((Key { id, secret, token: var("AWS_SESSION_TOKEN") }, None));
        }
        if let (Some(file), Some(arn)) = (var("AWS_WEB_IDENTITY_TOKEN_FILE"), var("AWS_ROLE_ARN")) {
            return self.web_identity(http, &role.region, &file, &arn).await;
        }
        if let Some(url) = var("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
            return self.container(http, &url).await;
        }
        Err(ProviderError::Misconfigured(
            "no AWS credentials: give the controller a web identity (IRSA), a Pod Identity or \
             AWS_ACCESS_KEY_ID, or name a Secret in the MetricProvider's auth.sigv4"
                .to_owned(),
        ))
    }

    async fn profile(&self, name: &str) -> Result<Key, ProviderError> {
        let home = self.variable("HOME").unwrap_or("/root");
        let file = self
            .variable("AWS_SHARED_CREDENTIALS_FILE")
            .map_or_else(|| format!("{home}/.aws/credentials"), str::to_owned);
        let wrong = |why: &str| {
            ProviderError::Misconfigured(format!("AWS profile {name:?}: {file}: {why}"))
        };
        let text = tokio::fs::read_to_string(&file).await.map_err(|e| wrong(&e.to_string()))?;
        let mut inside = false;
        let mut values = BTreeMap::new();
        for line in text.lines().map(str::trim) {
            if let Some(section) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                inside = section.trim() == name;
            } else if let (true, Some((key, value))) = (inside, line.split_once('=')) {
                values.insert(key.trim().to_owned(), value.trim().to_owned());
            }
        }
        let mut take = |key: &str| values.remove(key);
        match (take("aws_access_key_id"), take("aws_secret_access_key")) {
            (Some(id), Some(secret)) => Ok(Key { id, secret, token: take("aws_session_token") }),
            _ => Err(wrong("no aws_access_key_id and aws_secret_access_key")),
        }
    }

    async fn web_identity(
        &self,
        http: &Client,
        region: &str,
        file: &str,
        arn: &str,
    ) -> Result<(Key, Option<Timestamp>), ProviderError> {
        let token = tokio::fs::read_to_string(file).await;
        let token = token.map_err(|e| ProviderError::Misconfigured(format!("{file}: {e}")))?;
        let form = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", arn),
            ("RoleSessionName", "sluice"),
            ("WebIdentityToken", token.trim()),
        ];
        self.sts(http.post(self.sts_url(region)?).form(&form)).await
    }

    async fn assume(
        &self,
        http: &Client,
        region: &str,
        arn: &str,
        key: &Key,
        now: Timestamp,
    ) -> Result<(Key, Option<Timestamp>), ProviderError> {
        let mut url = self.sts_url(region)?;
        url.query_pairs_mut()
            .append_pair("Action", "AssumeRole")
            .append_pair("Version", "2011-06-15")
            .append_pair("RoleArn", arn)
            .append_pair("RoleSessionName", "sluice");
        let signing =
            Signing { method: "GET", url: &url, headers: &[], body: b"", region, service: "sts" };
        let headers = sign(&signing, key, now);
        let request = headers.into_iter().fold(http.get(url), |r, (n, v)| r.header(n, v));
        self.sts(request).await
    }

    /// The region of the environment.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn region(&self) -> Result<String, ProviderError> {
        let found = ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|v| self.variable(v));
        found.map(str::to_owned).ok_or_else(|| {
            ProviderError::Misconfigured(
                "no AWS region: set AWS_REGION for the controller, or name a MetricProvider with \
                 auth.sigv4"
                    .to_owned(),
            )
        })
    }

    /// A service's address: that of the environment, or AWS' own, which has another domain in China.
    pub(super) fn endpoint(&self, variable: &str, service: &str, region: &str) -> String {
        let tail = if region.starts_with("cn-") { ".cn" } else { "" };
        self.variable(&format!("AWS_ENDPOINT_URL_{variable}")).map_or_else(
            || format!("https://{service}.{region}.amazonaws.com{tail}/"),
            str::to_owned,
        )
    }

    fn sts_url(&self, region: &str) -> Result<Url, ProviderError> {
        let text = self.endpoint("STS", "sts", region);
        Url::parse(&text).map_err(|e| ProviderError::Misconfigured(format!("{text:?}: {e}")))
    }

    async fn sts(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<(Key, Option<Timestamp>), ProviderError> {
        let body = fetch(request).await?;
        let text = String::from_utf8_lossy(&body);
        let tag = |name: &str| {
            let (_, after) = text.split_once(&format!("<{name}>"))?;
            after.split_once(&format!("</{name}>")).map(|(inner, _)| inner.trim().to_owned())
        };
        let until = tag("Expiration").and_then(|at| at.parse().ok());
        match (tag("AccessKeyId"), tag("SecretAccessKey")) {
            (Some(id), Some(secret)) => Ok((Key { id, secret, token: tag("SessionToken") }, until)),
            _ => Err(ProviderError::Malformed("AWS STS: no key in the answer".to_owned())),
        }
    }

    async fn container(
        &self,
        http: &Client,
        url: &str,
    ) -> Result<(Key, Option<Timestamp>), ProviderError> {
        let mut request = http.get(url);
        if let Some(file) = self.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            let token = tokio::fs::read_to_string(file).await;
            let token = token.map_err(|e| ProviderError::Misconfigured(format!("{file}: {e}")))?;
            request = request.header("authorization", token.trim());
        }
        let body = fetch(request).await?;
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |name: &str| value.get(name).and_then(|v| v.as_str()).map(str::to_owned);
        let until = text("Expiration").and_then(|at| at.parse().ok());
        match (text("AccessKeyId"), text("SecretAccessKey")) {
            (Some(id), Some(secret)) => Ok((Key { id, secret, token: text("Token") }, until)),
            _ => Err(ProviderError::Malformed("AWS container: no key in the answer".to_owned())),
        }
    }
}

async fn fetch(request: reqwest::RequestBuilder) -> Result<Vec<u8>, ProviderError> {
    let what = "AWS credentials";
    let failed = |e: reqwest::Error| ProviderError::Unreachable(format!("{what}: {}", causes(e)));
    let response = request.timeout(TIMEOUT).send().await.map_err(failed)?;
    let status = response.status();
    let body = response.bytes().await.map_err(failed)?;
    if status.is_success() {
        return Ok(body.to_vec());
    }
    let message = format!("{what}: {status}: {}", shorten(&body));
    Err(match status.is_server_error() {
        true => ProviderError::Server(message),
        false => ProviderError::Refused(message),
    })
}
