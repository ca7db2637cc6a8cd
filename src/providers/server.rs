//! One metric server with its credentials, ready to be asked.

use std::fmt;

use jiff::SignedDuration;
use reqwest::Url;

use super::ProviderError;
use crate::analysis::Source;
use crate::api::DurationSpec;
use crate::api::common::SecretKeyRef;
use crate::api::metric_provider::{MetricProviderSpec, ProviderAuth, ProviderType};

/// Time a query may take when nothing else is said, as Argo.
const DEFAULT_TIMEOUT: SignedDuration = SignedDuration::from_secs(30);

/// Bytes of an answer that are read when nothing else is said.
const DEFAULT_BYTES: usize = 16 << 20;

/// A metric server.
#[derive(Debug, Clone)]
pub struct Server {
    /// Scheme, host and path prefix.
    pub address: Url,
    /// Credentials.
    pub auth: Auth,
    /// Headers sent along.
    pub headers: Vec<(String, String)>,
    /// The server's certificate is not verified.
    pub insecure: bool,
    /// Time a query may take.
    pub timeout: SignedDuration,
    /// Bytes of an answer that are read.
    pub max_bytes: usize,
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
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Basic(..) => "Basic(..)",
            Self::Bearer(_) => "Bearer(..)",
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
                 http://prometheus.monitoring:9090"
            ))
        };
        let address = Url::parse(address).map_err(|e| wrong(e.to_string()))?;
        if !matches!(address.scheme(), "http" | "https") || !address.has_host() {
            return Err(wrong("the scheme must be http or https".to_owned()));
        }
        Ok(Self {
            address,
            auth: Auth::None,
            headers: Vec::new(),
            insecure: false,
            timeout: DEFAULT_TIMEOUT,
            max_bytes: DEFAULT_BYTES,
        })
    }

    /// A server as a MetricProvider describes it. `secret` gives the value of a Secret's key.
    ///
    /// # Errors
    /// When the address is wrong, a Secret is missing, or a field is not supported yet.
    pub fn from_spec(
        spec: &MetricProviderSpec,
        secret: impl Fn(&SecretKeyRef) -> Option<String>,
    ) -> Result<Self, ProviderError> {
        let unsupported = |field: &str| {
            Err(ProviderError::Misconfigured(format!("spec.{field} is not supported yet")))
        };
        if spec.type_.unwrap_or_default() != ProviderType::Prometheus {
            return unsupported("type other than Prometheus");
        }
        let mut server = Self::at(&spec.address)?;
        server.headers = spec.headers.iter().map(|h| (h.key.clone(), h.value.clone())).collect();
        if let Some(auth) = &spec.auth {
            let ProviderAuth { bearer, basic, oauth2, sigv4 } = auth;
            let value = |at: &SecretKeyRef| {
                secret(at).ok_or_else(|| {
                    ProviderError::Misconfigured(format!(
                        "Secret {:?} has no key {:?}: create it next to the MetricProvider",
                        at.name, at.key
                    ))
                })
            };
            if oauth2.is_some() {
                return unsupported("auth.oauth2");
            }
            if sigv4.is_some() {
                return unsupported("auth.sigv4");
            }
            if let Some(basic) = basic {
                server.auth = Auth::Basic(basic.username.clone(), value(&basic.password)?);
            } else if let Some(bearer) = bearer {
                server.auth = Auth::Bearer(value(bearer)?);
            }
        }
        if let Some(tls) = &spec.tls {
            if tls.ca.is_some() || tls.cert.is_some() || tls.key.is_some() {
                return unsupported("tls.ca, tls.cert and tls.key");
            }
            if tls.server_name.is_some() {
                return unsupported("tls.serverName");
            }
            server.insecure = tls.insecure_skip_verify;
        }
        if let Some(timeout) = &spec.timeout {
            server.timeout = span(timeout)?;
        }
        let limits = spec.limits.as_ref();
        if let Some(bytes) = limits.and_then(|limits| limits.response_bytes) {
            server.max_bytes = usize::try_from(bytes).unwrap_or(DEFAULT_BYTES);
        }
        Ok(server)
    }

    /// This server with what the template adds.
    #[must_use]
    pub fn with(mut self, source: &Source) -> Self {
        if let Some((user, password)) = &source.basic {
            self.auth = Auth::Basic(user.clone(), password.clone());
        }
        self.headers.extend(source.headers.iter().cloned());
        self.insecure |= source.insecure;
        self.timeout = source.timeout.unwrap_or(self.timeout);
        self
    }

    /// The address for messages: without user and password.
    #[must_use]
    pub fn shown(&self) -> String {
        let mut address = self.address.clone();
        let _ = address.set_username("");
        let _ = address.set_password(None);
        address.to_string().trim_end_matches('/').to_owned()
    }
}

fn span(spec: &DurationSpec) -> Result<SignedDuration, ProviderError> {
    crate::spec::duration(spec)
        .filter(|timeout| timeout.is_positive())
        .ok_or_else(|| ProviderError::Misconfigured(format!("spec.timeout: {spec:?}: write 30s")))
}
