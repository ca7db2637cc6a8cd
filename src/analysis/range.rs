//! The start and the end of a range query: `now() - duration("5m")`, as Argo's users write them.
//!
//! Of Argo's expression language: `now()` or `date("...")`, then spans added and taken away. A date may
//! carry a layout as Go writes it and a time zone.

use std::fmt;

use jiff::civil::Time;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::api::DurationSpec;

/// A point in time, fixed or relative to the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RangeTime {
    fixed: Option<Timestamp>,
    offset: SignedDuration,
}

impl RangeTime {
    /// Reads an expression.
    ///
    /// # Errors
    /// What was not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text.trim();
        let (fixed, mut tail) = if let Some(tail) = rest.strip_prefix("now()") {
            (None, tail)
        } else {
            let (date, tail) = arguments(rest, "date")
                .ok_or("write now(), now() - duration(\"5m\") or date(\"2026-01-31T12:00:00Z\")")?;
            (Some(instant(&date)?), tail)
        };
        let mut offset = SignedDuration::ZERO;
        loop {
            rest = tail.trim_start();
            if rest.is_empty() {
                return Ok(Self { fixed, offset });
            }
            let add = rest.starts_with('+');
            let span = rest.strip_prefix(['+', '-']).ok_or(format!("cannot read {rest:?}"))?;
            let wrong = || format!("write duration(\"5m\") in place of {span:?}");
            let (given, next) = arguments(span.trim_start(), "duration").ok_or_else(wrong)?;
            let [span] = given[..] else { return Err(wrong()) };
            let length = crate::spec::duration(&DurationSpec::Text(span.to_owned()));
            let length = length.ok_or(format!("{span:?} is no duration, as 5m is"))?;
            let sum = if add { offset.checked_add(length) } else { offset.checked_sub(length) };
            offset = sum.ok_or("the duration is too long")?;
            tail = next;
        }
    }

    /// This instant, whatever the time of the measurement.
    #[must_use]
    pub fn fixed(at: Timestamp) -> Self {
        Self { fixed: Some(at), offset: SignedDuration::ZERO }
    }

    /// The instant it means at `now`.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Timestamp {
        let from = self.fixed.unwrap_or(now);
        from.saturating_add(self.offset).unwrap_or(from)
    }
}

impl fmt::Display for RangeTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fixed {
            Some(at) => write!(f, "{at}")?,
            None => f.write_str("now")?,
        }
        match self.offset.is_zero() {
            true => Ok(()),
            false => write!(f, "{:+} s", self.offset.as_secs()),
        }
    }
}

/// The texts in `name("...", "...")` and what follows.
fn arguments<'a>(text: &'a str, name: &str) -> Option<(Vec<&'a str>, &'a str)> {
    let mut rest = text.strip_prefix(name)?.trim_start().strip_prefix('(')?;
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start();
        let quote = rest.chars().next().filter(|c| ['"', '\'', '`'].contains(c))?;
        let (argument, tail) = rest.strip_prefix(quote)?.split_once(quote)?;
        found.push(argument);
        rest = tail.trim_start();
        match rest.strip_prefix(')') {
            Some(after) => return Some((found, after)),
            None => rest = rest.strip_prefix(',')?,
        }
    }
}

/// The layouts that are tried where none is given, as in Argo's expression language.
const LAYOUTS: [&str; 6] = [
    "2006-01-02",
    "15:04:05",
    "2006-01-02 15:04:05",
    "2006-01-02T15:04:05Z07:00",
    "02 Jan 06 15:04 -0700",
    "Mon, 02 Jan 2006 15:04:05 -0700",
];

/// The instant of a date, with its layout and time zone where they are given.
fn instant(given: &[&str]) -> Result<Timestamp, String> {
    let (date, layout, zone) = match *given {
        [date] => (date, None, "UTC"),
        [date, layout] => (date, Some(layout), "UTC"),
        [date, layout, zone] => (date, Some(layout), zone),
        _ => return Err("write date(\"DATE\"), with a layout and a time zone at most".to_owned()),
    };
    let named = TimeZone::get(zone).map_err(|_| format!("{zone:?} is no time zone"))?;
    let Some(layout) = layout else {
        let rfc3339 = || date.parse().ok();
        let tried = || LAYOUTS.iter().find_map(|layout| read(date, layout, &named));
        return rfc3339().or_else(tried).ok_or_else(|| format!("{date:?} is no RFC 3339 time"));
    };
    read(date, layout, &named)
        .ok_or_else(|| format!("{date:?} is not of the layout {layout:?}, which Go would read"))
}

/// What stands for what in a layout of Go: the longest first.
const GO: [(&str, &str); 22] = [
    ("2006", "%Y"),
    ("January", "%B"),
    ("Monday", "%A"),
    ("Z07:00", "%:z"),
    ("-07:00", "%:z"),
    ("-0700", "%z"),
    ("Jan", "%b"),
    ("Mon", "%a"),
    ("01", "%m"),
    ("02", "%d"),
    ("15", "%H"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("PM", "%p"),
    ("%", "%%"),
    ("1", "%m"),
    ("2", "%d"),
    ("3", "%I"),
    ("4", "%M"),
    ("5", "%S"),
];

fn read(date: &str, layout: &str, zone: &TimeZone) -> Option<Timestamp> {
    let mut format = String::new();
    let mut rest = layout;
    while let Some(next) = rest.chars().next() {
        match GO.iter().find_map(|(go, ours)| Some((rest.strip_prefix(go)?, ours))) {
            Some((tail, ours)) => {
                format.push_str(ours);
                rest = tail;
            }
            None => {
                format.push(next);
                rest = rest.get(next.len_utf8()..)?;
            }
        }
    }
    // Go writes Z for UTC where its layout has Z07:00.
    let date = match date.strip_suffix('Z').filter(|_| layout.ends_with("Z07:00")) {
        Some(date) => format!("{date}+00:00"),
        None => date.to_owned(),
    };
    let parts = strtime::parse(&format, &date).ok()?;
    if parts.offset().is_some() {
        return parts.to_timestamp().ok();
    }
    // Go fills in what a layout leaves out: the year 0 and midnight.
    let day = parts.to_date().ok()?;
    let time = parts.to_time().unwrap_or_else(|_| Time::midnight());
    day.to_datetime(time).to_zoned(zone.clone()).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_relative_to_the_measurement_or_fixed() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("now()", "2026-01-31T12:00:00Z"),
            (" now() - duration(\"5m\") ", "2026-01-31T11:55:00Z"),
            ("now()-duration('1h30m')+duration(`30m`)", "2026-01-31T11:00:00Z"),
            ("date(\"2026-01-01T00:00:00Z\") + duration(\"1h\")", "2026-01-01T01:00:00Z"),
            // The row of Argo's own test.
            (
                "date(\"2023-08-14 00:00:00\", \"2006-01-02 15:04:05\", \"UTC\") - duration(\"1h\")",
                "2023-08-13T23:00:00Z",
            ),
            (
                "date('2026-07-01 12:00', '2006-01-02 15:04', 'Europe/Berlin')",
                "2026-07-01T10:00:00Z",
            ),
            ("date('2026-07-01')", "2026-07-01T00:00:00Z"),
            ("date('2026-07-01 08:30:00')", "2026-07-01T08:30:00Z"),
            ("date('1 Jul 2026 08:30 PM', '2 Jan 2006 03:04 PM')", "2026-07-01T20:30:00Z"),
            (
                "date('2026-07-01T12:00:00+02:00', '2006-01-02T15:04:05Z07:00')",
                "2026-07-01T10:00:00Z",
            ),
            (
                "date('2026-07-01T12:00:00Z', '2006-01-02T15:04:05Z07:00', 'Asia/Tokyo')",
                "2026-07-01T12:00:00Z",
            ),
        ] {
            assert_eq!(RangeTime::parse(text).unwrap().at(now).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_what_to_write() {
        for (text, words) in [
            ("hello", "write now()"),
            ("now() -- ?", "write duration"),
            ("now() 5m", "cannot read"),
            ("now() - duration(\"5 parsecs\")", "no duration"),
            ("date(\"yesterday\")", "no RFC 3339 time"),
            ("date(\"2026\", \"2006-01-02\")", "not of the layout \"2006-01-02\""),
            ("date(\"2026-01-01\", \"2006-01-02\", \"Mars/Base\")", "no time zone"),
            ("date(\"a\", \"b\", \"c\", \"d\")", "at most"),
            ("now() - duration(\"5m\", \"6m\")", "write duration"),
        ] {
            let why = RangeTime::parse(text).unwrap_err();
            assert!(why.contains(words), "{text}: {why}");
        }
    }
}
