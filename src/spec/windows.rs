//! When a release may go on: windows in which it may, and freezes in which it must not.
//!
//! Inside any window, or where there are none, a release goes on, unless a freeze lasts. Both begin by a
//! schedule and last for a real span of time, whatever the clocks do meanwhile.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::cron::{self, Cron};
use super::duration::{self, duration};
use super::error::Errors;
use crate::api::rollout::Window;

/// The zone of a span that names none.
const UTC: &str = "UTC";

/// How many beginnings and ends are looked through for the next moment at which a release may go on.
const CHANGES: usize = 64;

/// Further away than this, a moment is told by its date and not by its weekday alone.
const THIS_WEEK: SignedDuration = SignedDuration::from_hours(6 * 24);

/// A span of time that comes again and again.
#[derive(Debug, Clone, PartialEq)]
pub struct Recurring {
    begins: Cron,
    zone: TimeZone,
    zone_name: String,
    lasts: SignedDuration,
}

/// The windows and freezes of a Rollout.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Calendar {
    windows: Vec<Recurring>,
    freezes: Vec<Recurring>,
}

/// Why a release may not go on now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// A freeze lasts; else no window is open.
    pub frozen: bool,
    /// When it may go on, if that can be foreseen.
    pub opens: Option<Timestamp>,
    /// That moment on the clocks of whoever wrote it: `Mon 09:00 Europe/Berlin`.
    pub said: String,
}

impl Calendar {
    /// Checks what the user wrote.
    pub(crate) fn parse(windows: &[Window], freezes: &[Window], errors: &mut Errors) -> Self {
        let all = |field: &str, list: &[Window], errors: &mut Errors| {
            let path = |i: usize| format!("spec.{field}[{i}]");
            let spans = list.iter().enumerate();
            spans.filter_map(|(i, w)| Recurring::parse(w, &path(i), errors)).collect()
        };
        Self { windows: all("windows", windows, errors), freezes: all("freezes", freezes, errors) }
    }

    /// Why a release may not go on at `now`, or `None` when it may.
    #[must_use]
    pub fn closed(&self, now: Timestamp) -> Option<Closed> {
        let frozen = self.freezes.iter().any(|f| f.until(now).is_some());
        if !frozen && self.inside(now) {
            return None;
        }
        let found = self.opens(now);
        let said = found
            .map_or_else(|| "at no time that can be foreseen".into(), |(at, by)| by.clock(at, now));
        Some(Closed { frozen, opens: found.map(|(at, _)| at), said })
    }

    fn inside(&self, at: Timestamp) -> bool {
        self.windows.is_empty() || self.windows.iter().any(|w| w.until(at).is_some())
    }

    /// The first moment after `now` at which a release may go on, and the span that says so.
    fn opens(&self, now: Timestamp) -> Option<(Timestamp, &Recurring)> {
        let mut at = now;
        let mut by: Option<&Recurring> = None;
        for _ in 0..CHANGES {
            let ends = self.freezes.iter().filter_map(|f| Some((f.until(at)?, f)));
            let (next, why) = match ends.max_by_key(|(end, _)| *end) {
                Some(end) => end,
                None if self.inside(at) => return by.map(|by| (at, by)),
                None => {
                    let begins = self.windows.iter().filter_map(|w| Some((w.next(at)?, w)));
                    begins.min_by_key(|(begin, _)| *begin)?
                }
            };
            (at, by) = (next, Some(why));
        }
        None
    }
}

impl Recurring {
    pub(super) fn parse(raw: &Window, path: &str, errors: &mut Errors) -> Option<Self> {
        let Window { cron, time_zone, duration: lasts } = raw;
        let begins = Cron::parse(cron)
            .map_err(|error| errors.invalid(format!("{path}.cron"), cron, error))
            .ok();
        let zone_name = time_zone.clone().unwrap_or_else(|| UTC.into());
        let zone = cron::zone(&zone_name);
        if zone.is_none() {
            let remedy = "is no time zone; write its place, such as Europe/Berlin, or leave it out \
                          for UTC";
            errors.invalid(format!("{path}.timeZone"), &zone_name, remedy);
        }
        let span = duration(lasts).filter(|span| span.is_positive());
        if span.is_none() {
            let remedy = format!("{}, and above 0", duration::REMEDY);
            errors.invalid(format!("{path}.duration"), lasts, remedy);
        }
        let (begins, zone, lasts) = (begins?, zone?, span?);
        if let Some(gap) = begins.shortest_gap().filter(|gap| *gap < lasts) {
            let remedy = format!(
                "is longer than the {gap:#} between two beginnings of `{cron}`; write at most that, \
                 or a cron that begins less often"
            );
            errors.invalid(format!("{path}.duration"), &raw.duration, remedy);
        }
        Some(Self { begins, zone, zone_name, lasts })
    }

    /// Whether it lasts at any time from `from` until just before `until`.
    #[must_use]
    pub fn meets(&self, from: Timestamp, until: Timestamp) -> bool {
        let begin = from.saturating_sub(self.lasts).unwrap_or(from);
        self.next(begin).is_some_and(|begins| begins < until)
    }

    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.begins.next_after(after, &self.zone)
    }

    /// When the span ends that lasts at `at`, or `None` outside. Spans that meet are one.
    fn until(&self, at: Timestamp) -> Option<Timestamp> {
        let mut end = None;
        let mut from = at.saturating_sub(self.lasts).ok()?;
        let mut reach = at;
        for _ in 0..CHANGES {
            let Some(begin) = self.next(from).filter(|begin| *begin <= reach) else { break };
            reach = begin.saturating_add(self.lasts).ok()?;
            end = Some(reach);
            from = begin;
        }
        end
    }

    /// `at` on the span's own clock.
    fn clock(&self, at: Timestamp, now: Timestamp) -> String {
        let far = at.duration_since(now) > THIS_WEEK;
        let format = if far { "%a %Y-%m-%d %H:%M" } else { "%a %H:%M" };
        format!("{} {}", at.to_zoned(self.zone.clone()).strftime(format), self.zone_name)
    }
}

#[cfg(test)]
mod tests;
