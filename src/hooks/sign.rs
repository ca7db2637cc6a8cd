//! Signatures as Standard Webhooks have them, so that ready libraries verify them: HMAC-SHA256 over
//! `ID.SECONDS.BODY`, in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::providers::hmac;

/// How a key in base64 begins.
const CODED: &str = "whsec_";
/// The shortest key, as the standard says.
const SHORTEST: usize = 24;

/// Why a key cannot sign.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// What stands behind `whsec_` is no base64.
    #[error("what stands behind whsec_ is no base64: correct the Secret")]
    Coding,
    /// Too short to be a secret.
    #[error("it has {0} bytes: write 24 or more")]
    Short(usize),
}

/// The value of `webhook-signature`. A key that begins with `whsec_` is base64, else its bytes are it.
///
/// # Errors
/// The key is too short, or no base64 where it says so.
pub fn signature(key: &str, id: &str, seconds: i64, body: &[u8]) -> Result<String, SignError> {
    let key = match key.strip_prefix(CODED) {
        Some(coded) => STANDARD.decode(coded).map_err(|_| SignError::Coding)?,
        None => key.as_bytes().to_vec(),
    };
    if key.len() < SHORTEST {
        return Err(SignError::Short(key.len()));
    }
    let signed = [format!("{id}.{seconds}.").as_bytes(), body].concat();
    Ok(format!("v1,{}", STANDARD.encode(hmac(&key, &signed))))
}
