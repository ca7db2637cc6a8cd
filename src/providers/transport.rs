//! One request to one server: credentials, limits of time and size, and what a failure was.
//!
//! No redirect is followed, no address with credentials in it is shown.

use std::error::Error as _;
use std::time::Duration;

use jiff::SignedDuration;
use reqwest::header::{HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode};

use super::aws::Aws;
use super::oauth2::Tokens;
use super::sigv4::{self, Signing};
use super::{Auth, ProviderError, Server};
use crate::clock::Clock;

/// Characters of a server's words that a message repeats.
const SHOWN: usize = 300;

/// A server that can be asked now.
pub(super) struct Link<'a> {
    pub server: &'a Server,
    pub client: &'a Client,
    /// Who is asked for tokens and keys is verified by this one.
    pub issuer: &'a Client,
    pub tokens: &'a Tokens,
    pub aws: &'a Aws,
    /// AWS' name of what is asked, for its signature.
    pub service: &'static str,
    pub clock: &'a dyn Clock,
}

/// An answer, whatever its status.
pub(super) struct Reply {
    pub status: StatusCode,
    pub retry_after: Option<SignedDuration>,
    pub location: Option<String>,
    pub body: Vec<u8>,
}

impl Link<'_> {
    /// Sends with the server's headers and credentials, and reads the answer.
    ///
    /// # Errors
    /// No answer, or a larger one than the server's bound.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Reply, ProviderError> {
        let server = self.server;
        let limit = Duration::try_from(server.timeout).unwrap_or_default();
        let reply = tokio::time::timeout(limit, self.exchange(request)).await.map_err(|_| {
            let seconds = server.timeout.as_secs_f64();
            ProviderError::Timeout(format!("{} did not answer within {seconds} s", server.shown()))
        })??;
        if reply.status == StatusCode::UNAUTHORIZED {
            self.tokens.forget(&server.auth);
        }
        Ok(reply)
    }

    /// The body of a successful answer. `said` finds the server's own words in another one.
    ///
    /// # Errors
    /// Any other answer, by its class.
    pub(super) fn accept(
        &self,
        reply: Reply,
        said: impl Fn(&[u8]) -> Option<String>,
    ) -> Result<Vec<u8>, ProviderError> {
        let Reply { status, retry_after, location, body } = reply;
        let at = self.server.shown();
        if status.is_success() {
            return Ok(body);
        }
        if status.is_redirection() && location.is_some() {
            let to = location.unwrap_or_default();
            let message = format!("{at} redirects to {to}: write that address");
            return Err(ProviderError::Refused(message));
        }
        let words = said(&body).unwrap_or_else(|| shorten(&body));
        let message = format!("{at} answered {status}: {words}");
        Err(match status {
            StatusCode::TOO_MANY_REQUESTS => ProviderError::RateLimited { message, retry_after },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                ProviderError::Refused(format!("{message}: check the credentials"))
            }
            StatusCode::SERVICE_UNAVAILABLE if retry_after.is_some() => {
                ProviderError::RateLimited { message, retry_after }
            }
            status if status.is_server_error() => ProviderError::Server(message),
            _ => ProviderError::Refused(message),
        })
    }

    /// An answer that is not what its documentation says.
    pub(super) fn malformed(&self, why: impl std::fmt::Display, body: &[u8]) -> ProviderError {
        let at = self.server.shown();
        ProviderError::Malformed(format!("{at}: {why}: {}", shorten(body)))
    }

    async fn exchange(&self, request: RequestBuilder) -> Result<Reply, ProviderError> {
        let server = self.server;
        let failed = |error| of_transport(error, server);
        let mut request = request.build().map_err(failed)?;
        for (name, value) in &server.headers {
            let wrong = |_| {
                ProviderError::Misconfigured(format!(
                    "the header {name:?} or its value cannot be sent: correct it"
                ))
            };
            let name: HeaderName = name.parse().map_err(|_| wrong(()))?;
            let value = HeaderValue::from_str(value).map_err(|_| wrong(()))?;
            request.headers_mut().insert(name, value);
        }
        self.authorize(&mut request).await?;
        let response = match &server.named {
            Some(named) => named.execute(request).await,
            None => self.client.execute(request).await,
        };
        let response = response.map_err(failed)?;
        let status = response.status();
        let retry_after = retry_after(&response);
        let location = response.headers().get("location");
        let location = location.and_then(|to| to.to_str().ok()).map(str::to_owned);
        let body = read(response, server).await?;
        Ok(Reply { status, retry_after, location, body })
    }

    async fn authorize(&self, request: &mut reqwest::Request) -> Result<(), ProviderError> {
        let wrong = |_| {
            ProviderError::Misconfigured("the credentials cannot be sent in a header".to_owned())
        };
        let authorization = match &self.server.auth {
            Auth::None => return Ok(()),
            Auth::Basic(user, password) => basic(user, password),
            Auth::Bearer(token) => format!("Bearer {token}"),
            Auth::OAuth2(client) => {
                let token = self.tokens.token(self.issuer, client, self.clock).await?;
                format!("Bearer {token}")
            }
            Auth::SigV4(role) => {
                let key = self.aws.key(self.issuer, role, self.clock).await?;
                let signed = |name: &str| name == "content-type" || name.starts_with("x-amz-");
                let headers = request.headers().iter();
                let headers: Vec<(&str, &str)> = headers
                    .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
                    .filter(|(name, _)| signed(name))
                    .collect();
                let body = request.body().and_then(|body| body.as_bytes()).unwrap_or_default();
                let signing = Signing {
                    method: request.method().as_str(),
                    url: request.url(),
                    headers: &headers,
                    body,
                    region: &role.region,
                    service: self.service,
                };
                for (name, value) in sigv4::sign(&signing, &key, self.clock.now()) {
                    let value = HeaderValue::from_str(&value).map_err(|_| wrong(()))?;
                    request.headers_mut().insert(name, value);
                }
                return Ok(());
            }
        };
        let mut value = HeaderValue::from_str(&authorization).map_err(|_| wrong(()))?;
        value.set_sensitive(true);
        request.headers_mut().insert("authorization", value);
        Ok(())
    }
}

/// The value of an `Authorization` header.
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        let word = word << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = word >> (18 - 6 * place) & 63;
            let digit = DIGITS.get(digit as usize).copied().unwrap_or(b'=');
            text.push(char::from(if place > chunk.len() { b'=' } else { digit }));
        }
    }
    text
}

async fn read(mut response: Response, server: &Server) -> Result<Vec<u8>, ProviderError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| of_transport(e, server))? {
        if body.len() + chunk.len() > server.max_bytes {
            return Err(ProviderError::Malformed(format!(
                "{}: the answer has more than {} bytes: aggregate the query",
                server.shown(),
                server.max_bytes
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What broke: the name, the certificate, or the connection.
pub(super) fn of_transport(error: reqwest::Error, server: &Server) -> ProviderError {
    let at = server.shown();
    if error.is_timeout() {
        return ProviderError::Timeout(format!("{at} took no connection in time"));
    }
    let builder = error.is_builder();
    let why = causes(error);
    if builder {
        return ProviderError::Misconfigured(format!("{at}: {why}"));
    }
    let remedy = if why.contains("dns error") {
        ": the name is not known here: correct the address"
    } else if why.contains("not valid for name") {
        ": TLS failed: write a name that the certificate carries as tls.serverName of a MetricProvider"
    } else if why.contains("certificate") || why.contains("CertificateRequired") {
        ": TLS failed: name a MetricProvider with tls.ca, tls.cert and tls.key"
    } else {
        ""
    };
    ProviderError::Unreachable(format!("{at}: {why}{remedy}"))
}

/// The error and its causes, without the address, which may hold credentials.
pub(crate) fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// `Retry-After` in seconds; a date is left aside, because its clock is not ours.
fn retry_after(response: &Response) -> Option<SignedDuration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse::<u32>().ok().map(|seconds| SignedDuration::from_secs(i64::from(seconds)))
}

/// The beginning of a server's words.
pub(super) fn shorten(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None if text.is_empty() => "an empty body".to_owned(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_gives_the_values_of_rfc_4648() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
