//! HTTP clients: certificate authority, our own certificate, the name to verify.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, Identity};

use super::ProviderError;

/// Time for a connection to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// Connections that are kept open to one host.
const IDLE: usize = 32;

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
        if let Some(ca) = &self.ca {
            let all = Certificate::from_pem_bundle(ca.as_bytes()).map_err(|e| wrong("ca", e))?;
            if all.is_empty() {
                let why = "tls.ca holds no certificate: write PEM";
                return Err(ProviderError::Misconfigured(why.to_owned()));
            }
            builder = builder.tls_certs_only(all);
        }
        if let Some(pem) = &self.identity {
            let identity = Identity::from_pem(pem.as_bytes()).map_err(|e| wrong("cert", e))?;
            builder = builder.identity(identity);
        }
        Ok(builder)
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
