//! One metric server with its credentials, ready to be asked.

use std::fmt;

use jiff::SignedDuration;
use reqwest::{Client, Url};

use super::ProviderError;
use super::aws::AwsRole;
use super::oauth2::OAuth2Client;
use super::tls::{Named, Tls};
use crate::analysis::{Login, Source};
use crate::api::DurationSpec;
use crate::api::common::SecretKeyRef;
use crate::api::metric_provider::{
    MetricProviderSpec, ProviderAuth, ProviderLimits, ProviderTls, ProviderType, SigV4Ref,
};

/// Time a query may take when nothing else is said, as Argo.
const DEFAULT_TIMEOUT: SignedDuration = SignedDuration::from_secs(30);

/// Bytes of an answer that are read when nothing else is said.
const DEFAULT_BYTES: usize = 16 << 20;

/// What a server without limits of its own is asked to bear: queries at a time, and a second.
const DEFAULT_LIMITS: (usize, u32) = (16, 100);

/// A metric server.
#[derive(Debug, Clone)]
pub struct Server {
    /// What it speaks; `None`: what the template says.
    pub type_: Option<ProviderType>,
    /// Scheme, host and path prefix.
    pub address: Url,
    /// Credentials.
    pub auth: Auth,
    /// Headers sent along; each name once.
    pub headers: Vec<(String, String)>,
    /// The server's certificate is not verified.
    pub insecure: bool,
    /// Time a query may take.
    pub timeout: SignedDuration,
    /// Bytes of an answer that are read.
    pub max_bytes: usize,
    /// Queries at a time.
    pub concurrent: usize,
    /// Queries a second.
    pub per_second: u32,
    /// The client, where the certificates are not everybody's.
    pub(super) client: Option<Client>,
    /// The client for those who give tokens, where a CA of one's own is trusted besides the machine's.
    pub(super) issuer: Option<Client>,
    /// The client for the server alone, where its certificate carries another name.
    pub(super) named: Option<Named>,
}

/// Credentials. They are never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Auth {
    /// None.
    #[default]
    None,
    /// A user name and a password.
    Basic(String, String),
    /// A bearer token.
    Bearer(String),
    /// OAuth2's client credentials.
    OAuth2(OAuth2Client),
    /// AWS' request signature.
    SigV4(AwsRole),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Basic(..) => "Basic(..)",
            Self::Bearer(_) => "Bearer(..)",
            Self::OAuth2(_) => "OAuth2(..)",
            Self::SigV4(_) => "SigV4(..)",
        })
    }
}

impl Server {
    /// A server without credentials.
    ///
    /// # Errors
    /// When `address` is no http(s) URL.
    pub fn at(address: &str) -> Result<Self, ProviderError> {
        let wrong = |why: String| {
            ProviderError::Misconfigured(format!(
                "prometheus address is not is url format: {address:?}: {why}; write \
                 http://prometheus.monitoring:9090 or another http(s) address"
            ))
        };
        if address.starts_with("://") {
            return Err(wrong(format!("parse {address:?}: missing protocol scheme")));
        }
        let address = Url::parse(address).map_err(|e| wrong(e.to_string()))?;
        if !matches!(address.scheme(), "http" | "https") || !address.has_host() {
            return Err(wrong("the scheme must be http or https".to_owned()));
        }
        let (concurrent, per_second) = DEFAULT_LIMITS;
        Ok(Self {
            type_: None,
            address,
            auth: Auth::None,
            headers: Vec::new(),
            insecure: false,
            timeout: DEFAULT_TIMEOUT,
            max_bytes: DEFAULT_BYTES,
            concurrent,
            per_second,
            client: None,
            issuer: None,
            named: None,
        })
    }

    /// A server as a MetricProvider describes it. `secret` gives the value of a Secret's key.
    ///
    /// # Errors
    /// When the address is wrong, a Secret is missing, or a field is not supported yet.
    pub fn from_spec(
        spec: &MetricProviderSpec,
        secret: impl Fn(&SecretKeyRef) -> Result<String, ProviderError>,
    ) -> Result<Self, ProviderError> {
        let mut server = Self::at(&spec.address)?;
        server.type_ = Some(spec.type_.unwrap_or_default());
        server.headers = spec.headers.iter().map(|h| (h.key.clone(), h.value.clone())).collect();
        if let Some(auth) = &spec.auth {
            server.auth = read_auth(auth, &secret)?;
            for header in &auth.headers {
                server.headers.push((header.key.clone(), secret(&header.value_from)?));
            }
        }
        if let Some(tls) = &spec.tls {
            let name = tls.server_name.as_deref();
            let tls = read_tls(tls, &secret)?;
            server.insecure = tls.insecure;
            server.client = if tls.is_plain() { None } else { Some(tls.client()?) };
            server.issuer = tls.issuer()?;
            server.named = name.map(|name| Named::new(&tls, name, &server.address)).transpose()?;
        }
        if let Some(timeout) = &spec.timeout {
            server.timeout = span(timeout)?;
        }
        if let Some(ProviderLimits { concurrent, per_second, response_bytes }) = &spec.limits {
            let bytes = response_bytes.and_then(|bytes| usize::try_from(bytes).ok());
            server.max_bytes = bytes.unwrap_or(server.max_bytes);
            let concurrent = concurrent.and_then(|n| usize::try_from(n).ok());
            server.concurrent = concurrent.unwrap_or(server.concurrent).max(1);
            let per_second = per_second.and_then(|n| u32::try_from(n).ok());
            server.per_second = per_second.unwrap_or(server.per_second).max(1);
        }
        Ok(server)
    }

    /// This server with what the template adds. What the server has already stays as it is.
    #[must_use]
    pub fn with(mut self, source: &Source) -> Self {
        match &source.login {
            Login::None => {}
            Login::Basic { user, password } => {
                self.auth = Auth::Basic(user.clone(), password.clone());
            }
            Login::OAuth2 { token_url, client_id, client_secret, scopes } => {
                self.auth = Auth::OAuth2(OAuth2Client {
                    token_url: token_url.clone(),
                    client_id: client_id.clone(),
                    client_secret: client_secret.clone(),
                    scopes: scopes.clone(),
                });
            }
            Login::SigV4 { region, profile, role_arn } => {
                self.auth = Auth::SigV4(AwsRole {
                    region: region.clone(),
                    profile: profile.clone(),
                    role_arn: role_arn.clone(),
                    key: None,
                });
            }
        }
        for (name, value) in &source.headers {
            if !self.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name)) {
                self.headers.push((name.clone(), value.clone()));
            }
        }
        self.insecure |= source.insecure;
        self.timeout = source.timeout.unwrap_or(self.timeout);
        self
    }

    /// The address with `path` below its prefix.
    #[must_use]
    pub fn below(&self, path: &str) -> Url {
        let mut url = self.address.clone();
        let prefix = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{prefix}{path}"));
        url
    }

    /// The address for messages: without user and password.
    #[must_use]
    pub fn shown(&self) -> String {
        let mut address = self.address.clone();
        let _ = address.set_username("");
        let _ = address.set_password(None);
        address.set_query(None);
        address.to_string().trim_end_matches('/').to_owned()
    }
}

/// The Secrets that a MetricProvider names.
pub(super) fn secrets_of(spec: &MetricProviderSpec) -> Vec<&str> {
    let mut found: Vec<&SecretKeyRef> = Vec::new();
    if let Some(ProviderAuth { bearer, basic, oauth2, sigv4, headers }) = &spec.auth {
        found.extend(bearer);
        found.extend(basic.as_ref().map(|basic| &basic.password));
        found.extend(oauth2.as_ref().map(|oauth2| &oauth2.client_secret));
        found.extend(sigv4.iter().flat_map(|s| s.access_key_id.iter().chain(&s.secret_access_key)));
        found.extend(headers.iter().map(|header| &header.value_from));
    }
    if let Some(ProviderTls { ca, cert, key, server_name: _, insecure_skip_verify: _ }) = &spec.tls
    {
        found.extend([ca, cert, key].into_iter().flatten());
    }
    found.into_iter().map(|at| at.name.as_str()).collect()
}

fn read_auth(
    auth: &ProviderAuth,
    secret: &impl Fn(&SecretKeyRef) -> Result<String, ProviderError>,
) -> Result<Auth, ProviderError> {
    let ProviderAuth { bearer, basic, oauth2, sigv4, headers: _ } = auth;
    if let Some(bearer) = bearer {
        return Ok(Auth::Bearer(secret(bearer)?));
    }
    if let Some(basic) = basic {
        return Ok(Auth::Basic(basic.username.clone(), secret(&basic.password)?));
    }
    if let Some(oauth2) = oauth2 {
        return Ok(Auth::OAuth2(OAuth2Client {
            token_url: oauth2.token_url.clone(),
            client_id: oauth2.client_id.clone(),
            client_secret: secret(&oauth2.client_secret)?,
            scopes: oauth2.scopes.clone(),
        }));
    }
    let Some(sigv4) = sigv4 else { return Ok(Auth::None) };
    let SigV4Ref { region, profile, role_arn, access_key_id, secret_access_key } = sigv4;
    let key = match (access_key_id, secret_access_key) {
        (Some(id), Some(key)) => Some((secret(id)?, secret(key)?)),
        _ => None,
    };
    Ok(Auth::SigV4(AwsRole {
        region: region.clone(),
        profile: profile.clone(),
        role_arn: role_arn.clone(),
        key,
    }))
}

fn read_tls(
    tls: &ProviderTls,
    secret: &impl Fn(&SecretKeyRef) -> Result<String, ProviderError>,
) -> Result<Tls, ProviderError> {
    let ProviderTls { ca, cert, key, server_name: _, insecure_skip_verify } = tls;
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some(format!("{}\n{}\n", secret(cert)?, secret(key)?)),
        _ => None,
    };
    Ok(Tls { ca: ca.as_ref().map(secret).transpose()?, identity, insecure: *insecure_skip_verify })
}

fn span(spec: &DurationSpec) -> Result<SignedDuration, ProviderError> {
    crate::spec::duration(spec)
        .filter(|timeout| timeout.is_positive())
        .ok_or_else(|| ProviderError::Misconfigured(format!("spec.timeout: {spec:?}: write 30s")))
}
