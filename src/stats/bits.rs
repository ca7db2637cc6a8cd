//! Scores as text, bit for bit: 16 hexadecimal digits each.
//!
//! A decimal number read back may differ in its last bit, and a verdict must not depend on whether the
//! controller was restarted in between.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

pub(crate) fn serialize<S: Serializer, const N: usize>(
    scores: &[f64; N],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    written(scores).serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
    deserializer: D,
) -> Result<[f64; N], D::Error> {
    read(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// The same for a list of them.
pub(crate) mod many {
    use super::{Deserialize, Deserializer, Error, Serialize, Serializer, read, written};

    pub(crate) fn serialize<S: Serializer, const N: usize>(
        list: &[[f64; N]],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        list.iter().map(|scores| written(scores)).collect::<Vec<_>>().serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<Vec<[f64; N]>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| read(text).map_err(D::Error::custom)).collect()
    }
}

fn written(scores: &[f64]) -> String {
    scores.iter().map(|score| format!("{:016x}", score.to_bits())).collect()
}

fn read<const N: usize>(text: &str) -> Result<[f64; N], String> {
    let wrong = || format!("expected {} hexadecimal digits, got {text:?}", N * 16);
    if text.len() != N * 16 || !text.is_ascii() {
        return Err(wrong());
    }
    let mut scores = [0.0; N];
    for (k, score) in scores.iter_mut().enumerate() {
        let bits = u64::from_str_radix(&text[k * 16..(k + 1) * 16], 16).map_err(|_| wrong())?;
        *score = f64::from_bits(bits);
        if !score.is_finite() {
            return Err(format!("score {k} of a checkpoint is {score}, which no run can reach"));
        }
    }
    Ok(scores)
}
