//! OAuth2's client credentials grant, RFC 6749 4.4: one token for all queries until it expires.
//!
//! As Argo's library, the client says who it is in a header, and in the form where the server refuses
//! that; which of the two a server takes is remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::Client;
use serde::Deserialize;
use tokio::sync::Mutex as AsyncMutex;

use super::sigv4::encode;
use super::transport::{basic, causes, shorten};
use super::{Auth, ProviderError};
use crate::clock::Clock;

/// A token is not used in its last seconds.
const MARGIN: SignedDuration = SignedDuration::from_secs(10);

/// How long a token is used whose answer does not say it.
const UNSAID: SignedDuration = SignedDuration::from_mins(5);

/// How long the token's server may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Clients whose tokens are kept. Emptied when it is full.
const MOST: usize = 1_000;

/// Bytes of a token's answer.
const BYTES: usize = 64 << 10;

/// A client that asks for tokens.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct OAuth2Client {
    /// Where.
    pub token_url: String,
    /// Who.
    pub client_id: String,
    /// The secret.
    pub client_secret: String,
    /// Scopes.
    pub scopes: Vec<String>,
}

type Slot = Arc<AsyncMutex<Option<(String, Timestamp)>>>;

/// The tokens that were given.
#[derive(Default)]
pub(super) struct Tokens {
    slots: Mutex<BTreeMap<OAuth2Client, Slot>>,
    /// Addresses of servers that want the client in the form.
    by_form: Mutex<BTreeSet<String>>,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: Option<serde_json::Value>,
}

impl Tokens {
    /// A token for `asking`: the one that is held, or a new one. Asked once for all who wait.
    ///
    /// # Errors
    /// In the words of Argo's library, which users search for.
    pub(super) async fn token(
        &self,
        http: &Client,
        asking: &OAuth2Client,
        clock: &dyn Clock,
    ) -> Result<String, ProviderError> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            if slots.len() >= MOST {
                slots.clear();
            }
            Arc::clone(slots.entry(asking.clone()).or_default())
        };
        let mut held = slot.lock().await;
        if let Some((token, until)) = held.as_ref()
            && clock.now() < *until
        {
            return Ok(token.clone());
        }
        let (token, lasts) = self.fetch(http, asking).await?;
        let until = clock.now().saturating_add(lasts.saturating_sub(MARGIN));
        *held = until.ok().map(|until| (token.clone(), until));
        Ok(token)
    }

    async fn fetch(
        &self,
        http: &Client,
        asking: &OAuth2Client,
    ) -> Result<(String, SignedDuration), ProviderError> {
        let form = self.by_form().contains(&asking.token_url);
        let again = match fetch(http, asking, form).await {
            Err(ProviderError::Refused(_)) => fetch(http, asking, !form).await,
            other => return other,
        };
        if again.is_ok() {
            let mut by_form = self.by_form();
            by_form.remove(&asking.token_url);
            if !form && by_form.len() < MOST {
                by_form.insert(asking.token_url.clone());
            }
        }
        again
    }

    fn by_form(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.by_form.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a token that a server did not take.
    pub(super) fn forget(&self, auth: &Auth) {
        if let Auth::OAuth2(client) = auth {
            self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(client);
        }
    }
}

async fn fetch(
    http: &Client,
    asking: &OAuth2Client,
    by_form: bool,
) -> Result<(String, SignedDuration), ProviderError> {
    let OAuth2Client { token_url, client_id, client_secret, scopes } = asking;
    let scope = scopes.join(" ");
    let mut form = vec![("grant_type", "client_credentials")];
    if !scope.is_empty() {
        form.push(("scope", &scope));
    }
    if by_form {
        form.extend([("client_id", client_id.as_str()), ("client_secret", client_secret)]);
    }
    let what = "oauth2: cannot fetch token";
    let mut request = http.post(token_url).timeout(TIMEOUT).form(&form);
    if !by_form {
        // RFC 6749 2.3.1: encoded as in a form.
        let coded = |text: &str| encode(text).replace("%20", "+");
        request = request.header("authorization", basic(&coded(client_id), &coded(client_secret)));
    }
    let response = request.header("accept", "application/json").send().await;
    let mut response = response.map_err(|e| {
        let timeout = e.is_timeout();
        let builder = e.is_builder();
        let message = format!("{what}: {}", causes(e));
        match (timeout, builder) {
            (true, _) => ProviderError::Timeout(message),
            (_, true) => ProviderError::Misconfigured(message),
            _ => ProviderError::Unreachable(message),
        }
    })?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|e| ProviderError::Unreachable(format!("{what}: {e}")))?
    {
        if body.len() + chunk.len() > BYTES {
            return Err(ProviderError::Malformed(format!("{what}: more than {BYTES} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    if !status.is_success() {
        let message = format!("{what}: {status}: {}", shorten(&body));
        return Err(match status.is_server_error() {
            true => ProviderError::Server(message),
            false => ProviderError::Refused(message),
        });
    }
    let granted: Granted = serde_json::from_slice(&body)
        .map_err(|_| ProviderError::Malformed(format!("{what}: no access_token in the answer")))?;
    // Some servers write the seconds as text.
    let seconds = granted.expires_in.as_ref().and_then(|value| {
        value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
    });
    Ok((granted.access_token, seconds.map_or(UNSAID, SignedDuration::from_secs)))
}
