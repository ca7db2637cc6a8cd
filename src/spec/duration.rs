//! Spans of time: a number of seconds, or text such as `30s`, `10m`, `1h30m`, `90` (seconds).

use jiff::SignedDuration;

use crate::api::DurationSpec;

/// What a span must look like.
pub(crate) const REMEDY: &str =
    "must be seconds such as 90, or text such as `30s`, `10m`, `1h30m`, from 0 to 365 days";

/// The longest span that can be meant.
const LONGEST: SignedDuration = SignedDuration::from_hours(365 * 24);

/// The span that was written, if it is one.
#[must_use]
pub fn duration(spec: &DurationSpec) -> Option<SignedDuration> {
    let span = match spec {
        DurationSpec::Seconds(seconds) => SignedDuration::from_secs(*seconds),
        DurationSpec::Text(text) => duration_text(text)?,
    };
    (SignedDuration::ZERO..=LONGEST).contains(&span).then_some(span)
}

fn duration_text(text: &str) -> Option<SignedDuration> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(SignedDuration::from_secs(seconds.into()));
    }
    // The crate also reads words such as `2 months`, which the schema refuses: one spelling only.
    if text.contains(char::is_whitespace) {
        return None;
    }
    SignedDuration::try_from(humantime::parse_duration(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_text_mean_the_same() {
        let text = |t: &str| duration(&DurationSpec::Text(t.into())).map(|d| d.as_secs());
        assert_eq!(duration(&DurationSpec::Seconds(90)).map(|d| d.as_secs()), Some(90));
        for (written, seconds) in
            [("90", 90), ("30s", 30), ("10m", 600), ("1h30m", 5400), ("14d", 1_209_600)]
        {
            assert_eq!(text(written), Some(seconds), "{written}");
        }
    }

    #[test]
    fn what_is_no_span_or_too_long_is_refused() {
        for bad in ["", "-5s", "5x", "1h 30m", "s", "366d", "99999999999999h", "1e3s"] {
            assert_eq!(duration(&DurationSpec::Text(bad.into())), None, "{bad}");
        }
        for bad in [-1, i64::MAX, i64::MIN, 366 * 86_400] {
            assert_eq!(duration(&DurationSpec::Seconds(bad)), None, "{bad}");
        }
    }
}
