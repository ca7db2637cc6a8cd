//! What an answer means: Flagger's by the status, Kusion's by a `code` in the body.

use jiff::SignedDuration;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use crate::rollout::HookAnswer;

/// Characters of a hook's words that the status repeats.
const SHOWN: usize = 300;

/// Kusion's answer, whole or its `status`.
#[derive(Deserialize, Default)]
struct Said {
    code: Option<String>,
    reason: Option<String>,
    message: Option<String>,
    status: Option<Box<Said>>,
}

/// Reads an answer. Success without a `code` is OK, as for Flagger; with one, the code decides.
pub(super) fn read(
    status: StatusCode,
    json: bool,
    again: Option<SignedDuration>,
    body: &[u8],
) -> HookAnswer {
    let error = |message: String| HookAnswer::Error { message };
    if status.is_redirection() {
        return error(format!(
            "it answered {status}: redirects are not followed, write that address"
        ));
    }
    let parsed = serde_json::from_slice::<Value>(body).ok();
    let said = parsed.clone().and_then(|v| serde_json::from_value::<Said>(v).ok());
    let said = said.map(|said| match said {
        Said { code: None, status: Some(inner), .. } => *inner,
        said => said,
    });
    let words = said.as_ref().map_or_else(|| shorten(&String::from_utf8_lossy(body)), told);
    if !status.is_success() {
        let colon = if words.is_empty() { "" } else { ": " };
        return error(format!("it answered {status}{colon}{words}"));
    }
    if json && parsed.is_none() && !body.is_empty() {
        return error(format!("its answer is no JSON: {words}"));
    }
    match said.and_then(|said| said.code).as_deref() {
        None | Some("OK") => {
            HookAnswer::Ok { message: if parsed.is_some() { words } else { String::new() } }
        }
        Some("Processing") => HookAnswer::Processing { message: words, again },
        Some("Error") if words.is_empty() => error("it answered Error without a reason".into()),
        Some("Error") => error(words),
        Some(code) => {
            let code = shorten(code);
            error(format!("its code {code:?} is none of OK, Error and Processing"))
        }
    }
}

/// Reason and message.
fn told(said: &Said) -> String {
    let parts = [said.reason.as_deref(), said.message.as_deref()];
    let words: Vec<&str> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    shorten(&words.join(": "))
}

/// `Retry-After` in seconds.
pub(super) fn seconds(text: &str) -> Option<SignedDuration> {
    text.trim().parse::<u32>().ok().map(|seconds| SignedDuration::from_secs(i64::from(seconds)))
}

/// The beginning of somebody's words, on one line and without what a terminal would obey.
fn shorten(text: &str) -> String {
    let line: String =
        text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN + 1).collect();
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", line.get(..end).unwrap_or_default()),
        None => line,
    }
}
