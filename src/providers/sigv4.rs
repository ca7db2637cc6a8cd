//! AWS Signature Version 4: pure text and hashes, as AWS documents them.
//!
//! The path is encoded twice, which is right for every service but S3.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use reqwest::Url;
use sha2::{Digest, Sha256};

/// Bytes of SHA-256's block.
const BLOCK: usize = 64;

/// An access key. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// The key's name.
    pub id: String,
    /// The key.
    pub secret: String,
    /// The token of a temporary key.
    pub token: Option<String>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// What is signed.
pub(super) struct Signing<'a> {
    pub method: &'a str,
    pub url: &'a Url,
    /// Header names in lower case and values, sent as they are and signed besides `host`.
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
    pub region: &'a str,
    pub service: &'a str,
}

/// The headers to add: `x-amz-date`, `authorization` and, for a temporary key, its token.
pub(super) fn sign(
    request: &Signing<'_>,
    key: &Key,
    now: Timestamp,
) -> Vec<(&'static str, String)> {
    let at = now.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = at.get(..8).unwrap_or_default();
    let host = host(request.url);
    let mut headers: Vec<(&str, &str)> = request.headers.to_vec();
    headers.extend([("host", host.as_str()), ("x-amz-date", at.as_str())]);
    if let Some(token) = &key.token {
        headers.push(("x-amz-security-token", token));
    }
    headers.sort_unstable();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let mut canonical =
        format!("{}\n{}\n{}\n", request.method, path(request.url), query(request.url));
    for (name, value) in &headers {
        let words: Vec<&str> = value.split_whitespace().collect();
        let _ = writeln!(canonical, "{name}:{}", words.join(" "));
    }
    let _ = write!(canonical, "\n{names}\n{}", hex(&Sha256::digest(request.body)));
    let scope = format!("{day}/{}/{}/aws4_request", request.region, request.service);
    let text =
        format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let parts = [day, request.region, request.service, "aws4_request"];
    let start = format!("AWS4{}", key.secret).into_bytes();
    let signing = parts.iter().fold(start, |key, part| hmac(&key, part.as_bytes()).to_vec());
    let signature = hex(&hmac(&signing, text.as_bytes()));
    let mut added = vec![
        (
            "authorization",
            format!(
                "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, \
                 Signature={signature}",
                key.id
            ),
        ),
        ("x-amz-date", at),
    ];
    added.extend(key.token.clone().map(|token| ("x-amz-security-token", token)));
    added
}

/// The `Host` header of a request: with the port, unless it is the scheme's own.
pub(super) fn host(url: &Url) -> String {
    match (url.host_str().unwrap_or_default(), url.port()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.to_owned(),
    }
}

/// HMAC with SHA-256, RFC 2104.
pub(crate) fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; BLOCK];
    let short: &[u8] = if key.len() > BLOCK { &Sha256::digest(key) } else { key };
    for (to, from) in block.iter_mut().zip(short) {
        *to = *from;
    }
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn path(url: &Url) -> String {
    url.path().split('/').map(encode).collect::<Vec<_>>().join("/")
}

fn query(url: &Url) -> String {
    let mut pairs: Vec<(String, String)> =
        url.query_pairs().map(|(name, value)| (encode(&name), encode(&value))).collect();
    pairs.sort();
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// Everything but letters, digits and `-._~` as `%XX`.
pub(super) fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut done, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            done.push(char::from(byte));
        } else {
            let _ = write!(done, "%{byte:02X}");
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(request: &Signing<'_>) -> String {
        let key = Key {
            id: "AKIDEXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            token: None,
        };
        let now = "2015-08-30T12:36:00Z".parse().unwrap();
        let added = sign(request, &key, now);
        assert_eq!(added[1], ("x-amz-date", "20150830T123600Z".to_owned()));
        added[0].1.split("Signature=").nth(1).unwrap().to_owned()
    }

    #[test]
    fn the_signatures_of_amazons_own_examples_come_out() {
        let at = |url: &str| Url::parse(url).unwrap();
        let vanilla = at("https://example.amazonaws.com/");
        let sorted = at("https://example.amazonaws.com/?Param2=value2&Param1=value1");
        let users = at("https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08");
        let form = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        let plain = [("content-type", "application/x-www-form-urlencoded")];
        for (method, url, headers, body, service, expected) in [
            (
                "GET",
                &vanilla,
                &[][..],
                &b""[..],
                "service",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "GET",
                &sorted,
                &[],
                b"",
                "service",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "POST",
                &vanilla,
                &plain,
                b"Param1=value1",
                "service",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
            (
                "GET",
                &users,
                &form,
                b"",
                "iam",
                "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
            ),
        ] {
            let request = Signing { method, url, headers, body, region: "us-east-1", service };
            assert_eq!(signature(&request), expected, "{method} {url}");
        }
    }

    #[test]
    fn hmac_gives_the_values_of_rfc_4231() {
        for (key, message, expected) in [
            (
                &[0x0b; 20][..],
                &b"Hi There"[..],
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ] {
            assert_eq!(hex(&hmac(key, message)), expected);
        }
    }

    #[test]
    fn a_temporary_keys_token_is_sent_and_signed() {
        let url = Url::parse("https://example.amazonaws.com/").unwrap();
        let key =
            Key { id: "a".to_owned(), secret: "b".to_owned(), token: Some("the-token".to_owned()) };
        let request = Signing {
            method: "GET",
            url: &url,
            headers: &[],
            body: b"",
            region: "r",
            service: "s",
        };
        let added = sign(&request, &key, Timestamp::UNIX_EPOCH);
        assert_eq!(added[2], ("x-amz-security-token", "the-token".to_owned()));
        assert!(added[0].1.contains("SignedHeaders=host;x-amz-date;x-amz-security-token"));
    }
}
