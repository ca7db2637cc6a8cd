//! Outgoing calls: one POST of JSON to one hook, and what its answer means.
//!
//! [`Caller`] is the port: [`Http`] calls real servers, the simulator answers by itself. Nothing is
//! decided here and nothing is repeated: what a call is and whether it is made again, `rollout` has
//! said. No redirect is followed and no proxy of the environment is used, so that a token goes where it
//! is meant for; neither a token nor an address reaches a log. `answer.rs` reads answers, `sign.rs`
//! signs.

mod answer;
mod sign;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response};

use crate::api::common::SecretKeyRef;
use crate::providers::{Tls, causes, token};
use crate::rollout::{HookAnswer, HookCall};

pub use sign::{SignError, signature};

/// The largest body that is sent.
const BODY: usize = 64 << 10;
/// The most of an answer that is read: a code and a sentence fit many times.
const ANSWER: usize = 64 << 10;

/// Whatever calls hooks.
pub trait Caller: Send + Sync {
    /// Makes one call. It is answered or has failed within its timeout. Secrets are read through `client`
    /// in `namespace`, the Rollout's own.
    fn call<'a>(
        &'a self,
        client: &'a kube::Client,
        namespace: &'a str,
        call: &'a HookCall,
        now: Timestamp,
    ) -> BoxFuture<'a, HookAnswer>;
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("{0}")]
    Secret(String),
    #[error("the key of its signature: {0}")]
    Signature(#[from] SignError),
    #[error("{0} cannot be sent in a header: correct the Secret")]
    Header(&'static str),
    #[error("{0} bytes are to be sent, at most {BODY} may be: shorten metadata")]
    Large(usize),
    #[error("{0}")]
    Transport(String),
    #[error("the answer has more than {ANSWER} bytes")]
    LongAnswer,
}

/// Calls over HTTP.
#[derive(Default)]
pub struct Http {
    plain: OnceLock<Client>,
}

impl Caller for Http {
    fn call<'a>(
        &'a self,
        client: &'a kube::Client,
        namespace: &'a str,
        call: &'a HookCall,
        now: Timestamp,
    ) -> BoxFuture<'a, HookAnswer> {
        Box::pin(async move {
            let limit = Duration::try_from(call.timeout).unwrap_or_default();
            let sent = tokio::time::timeout(limit, self.send(client, namespace, call, now)).await;
            match sent {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => HookAnswer::Error { message: error.to_string() },
                Err(_) => {
                    let message = format!("no answer within {:#}", call.timeout);
                    HookAnswer::Error { message }
                }
            }
        })
    }
}

impl Http {
    async fn send(
        &self,
        client: &kube::Client,
        namespace: &str,
        call: &HookCall,
        now: Timestamp,
    ) -> Result<HookAnswer, CallError> {
        let body = call.body.to_string().into_bytes();
        if body.len() > BODY {
            return Err(CallError::Large(body.len()));
        }
        let mut request = self
            .client(client, namespace, call)
            .await?
            .post(&call.url)
            .header(CONTENT_TYPE, "application/json")
            .header("sluice-hook", format!("{:?}", call.at))
            .header("sluice-call", call.number)
            .header("webhook-id", &call.id)
            .header("webhook-timestamp", now.as_second());
        if let Some(at) = &call.bearer {
            let token = secret(client, namespace, at).await?;
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| CallError::Header("the token"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(at) = &call.signature {
            let key = secret(client, namespace, at).await?;
            let signed = signature(&key, &call.id, now.as_second(), &body)?;
            request = request.header("webhook-signature", signed);
        }
        let failed = |error| CallError::Transport(said(error));
        let response = request.body(body).send().await.map_err(failed)?;
        let status = response.status();
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let again = header(RETRY_AFTER).and_then(answer::seconds);
        let json = header(CONTENT_TYPE).is_some_and(|kind| kind.contains("json"));
        let body = read(response).await?;
        Ok(answer::read(status, json, again, &body))
    }

    /// The client of everybody, or one with the hook's own certificate authority.
    async fn client(
        &self,
        client: &kube::Client,
        namespace: &str,
        call: &HookCall,
    ) -> Result<Client, CallError> {
        let build = |ca| {
            let tls = Tls { ca, ..Tls::default() };
            let builder = tls.builder().map_err(|e| CallError::Secret(e.to_string()))?;
            let built = builder.no_proxy().build();
            built.map_err(|error| CallError::Transport(causes(error)))
        };
        if let Some(at) = &call.ca {
            return build(Some(secret(client, namespace, at).await?));
        }
        if let Some(plain) = self.plain.get() {
            return Ok(plain.clone());
        }
        let plain = build(None)?;
        Ok(self.plain.get_or_init(|| plain).clone())
    }
}

async fn secret(
    client: &kube::Client,
    namespace: &str,
    at: &SecretKeyRef,
) -> Result<String, CallError> {
    token(client, namespace, at).await.map_err(|error| CallError::Secret(error.to_string()))
}

/// What broke, without the address, and what to do about a certificate.
fn said(error: reqwest::Error) -> String {
    let why = causes(error);
    let remedy = if why.contains("certificate") {
        ": name its authority in tls.ca"
    } else if why.contains("dns error") {
        ": the name is not known here, correct the url"
    } else {
        ""
    };
    format!("{why}{remedy}")
}

async fn read(mut response: Response) -> Result<Vec<u8>, CallError> {
    let mut body = Vec::new();
    let failed = |error| CallError::Transport(said(error));
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > ANSWER {
            return Err(CallError::LongAnswer);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
