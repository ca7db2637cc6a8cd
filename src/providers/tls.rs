//! HTTP clients: certificate authority, our own certificate, the name to verify.

use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HOST, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, Identity, Request, Url};

use super::ProviderError;

/// Time for a connection to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// Connections that are kept open to one host.
const IDLE: usize = 32;

/// A client for one server whose certificate carries another name than its address.
///
/// A client knows one name for a connection. So it is given the certificate's, which it finds where the
/// address is, and the `Host` header keeps the address.
#[derive(Clone)]
pub(super) struct Named {
    name: String,
    client: Client,
}

impl std::fmt::Debug for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Named({})", self.name)
    }
}

impl Named {
    /// The client of `tls` that connects to the host of `address` and wants `name` from it.
    ///
    /// # Errors
    /// `name` is none that a certificate could be asked for, or what is wrong with which PEM.
    pub(super) fn new(tls: &Tls, name: &str, address: &Url) -> Result<Self, ProviderError> {
        let wrong = |remedy: &str| {
            ProviderError::Misconfigured(format!("tls.serverName: {name:?}: {remedy}"))
        };
        if address.scheme() != "https" {
            return Err(wrong("there is no TLS at an http address: write https or leave it out"));
        }
        let mut asked = address.clone();
        let is_name = asked.set_host(Some(name)).is_ok() && asked.domain().is_some();
        if !is_name {
            return Err(wrong("write a DNS name of the server's certificate, without a port"));
        }
        let host = address.host_str().unwrap_or_default();
        let place = Place(host.trim_start_matches('[').trim_end_matches(']').to_owned());
        // HTTP/2 has no Host header but the name of the connection; a proxy would look that up.
        let builder = tls.builder()?.dns_resolver(place).http1_only().no_proxy();
        let client = builder.build().map_err(|e| self::wrong("cert", e))?;
        Ok(Self { name: name.to_owned(), client })
    }

    /// Sends what is ready to be sent, its signature included.
    pub(super) async fn execute(&self, mut request: Request) -> reqwest::Result<reqwest::Response> {
        if let Ok(host) = HeaderValue::from_str(&super::sigv4::host(request.url())) {
            request.headers_mut().insert(HOST, host);
        }
        // `new` has seen that it can be set.
        let _ = request.url_mut().set_host(Some(&self.name));
        self.client.execute(request).await
    }
}

/// Finds every name at one host.
struct Place(String);

impl Resolve for Place {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.0.clone();
        Box::pin(async move {
            // The port is the address's, whatever is said here.
            let found: Vec<_> = tokio::net::lookup_host((host, 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// How a server is verified and we show ourselves.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    /// Certificate authorities, PEM; they replace the machine's.
    pub ca: Option<String>,
    /// Our certificate and its key, PEM.
    pub identity: Option<String>,
    /// The server's certificate is not verified.
    pub insecure: bool,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls(..)")
    }
}

impl Tls {
    /// Nothing but what every client does.
    pub(super) fn is_plain(&self) -> bool {
        self.ca.is_none() && self.identity.is_none()
    }

    /// A client of this kind. Needs a process-wide TLS provider.
    ///
    /// # Errors
    /// What is wrong with which PEM.
    pub(super) fn client(&self) -> Result<Client, ProviderError> {
        self.builder()?.build().map_err(|e| wrong("cert", e))
    }

    /// What makes such a client.
    ///
    /// # Errors
    /// What is wrong with which PEM.
    pub(crate) fn builder(&self) -> Result<ClientBuilder, ProviderError> {
        let mut builder = base(self.insecure);
        if let Some(all) = self.authorities()? {
            builder = builder.tls_certs_only(all);
        }
        if let Some(pem) = &self.identity {
            let identity = Identity::from_pem(pem.as_bytes()).map_err(|e| wrong("cert", e))?;
            builder = builder.identity(identity);
        }
        Ok(builder)
    }

    /// A client for those who give tokens: the machine's authorities and ours, always verified, as our secret
    /// is sent there; our certificate is the server's business alone. `None`: everybody's does.
    ///
    /// # Errors
    /// What is wrong with which PEM.
    pub(super) fn issuer(&self) -> Result<Option<Client>, ProviderError> {
        let Some(all) = self.authorities()? else { return Ok(None) };
        base(false).tls_certs_merge(all).build().map(Some).map_err(|e| wrong("ca", e))
    }

    fn authorities(&self) -> Result<Option<Vec<Certificate>>, ProviderError> {
        let Some(ca) = &self.ca else { return Ok(None) };
        let all = Certificate::from_pem_bundle(ca.as_bytes()).map_err(|e| wrong("ca", e))?;
        if all.is_empty() {
            let why = "tls.ca holds no certificate: write PEM";
            return Err(ProviderError::Misconfigured(why.to_owned()));
        }
        Ok(Some(all))
    }
}

fn wrong(field: &str, error: reqwest::Error) -> ProviderError {
    let why = super::transport::causes(error);
    ProviderError::Misconfigured(format!("tls.{field}: {why}: write PEM"))
}

/// A client that follows no redirects, so that credentials stay where they are meant for.
pub(super) fn base(insecure: bool) -> ClientBuilder {
    Client::builder()
        .connect_timeout(CONNECT)
        .redirect(Policy::none())
        .pool_max_idle_per_host(IDLE)
        .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
        .tls_danger_accept_invalid_certs(insecure)
}
