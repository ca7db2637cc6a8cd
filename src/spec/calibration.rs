//! How the boundary of comparisons is learnt: which history, how often.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::cron::{self, Cron};
use super::duration::{self, duration};
use super::error::{Errors, SpecError};
use super::windows::Recurring;
use crate::api::DurationSpec;
use crate::api::analysis::Calibration;
use crate::stats::conformal::windows_needed;

/// Windows: as many hours as Prometheus keeps unless it is told otherwise, which is 15 days.
const WINDOWS: usize = 360;

/// An hour: as long as most releases are compared.
const WINDOW: SignedDuration = SignedDuration::from_hours(1);

/// The shortest window: batches of half an hour are what long-run noise is known from, and shorter
/// ones say nothing of how evidence grows.
const SHORTEST: SignedDuration = SignedDuration::from_mins(10);

/// Once a week, when little goes on.
const SCHEDULE: &str = "0 4 * * 1";

/// What is learnt from, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct CalibrationPlan {
    /// How far back.
    pub history: SignedDuration,
    /// Windows, at most.
    pub windows: usize,
    /// How long a window is.
    pub window: SignedDuration,
    /// Spans that are left out.
    pub exclude: Vec<Recurring>,
    schedule: Cron,
    zone: TimeZone,
}

impl CalibrationPlan {
    /// Checks what a template says at `path`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(raw: &Calibration, path: &str) -> Result<Self, Vec<SpecError>> {
        let Calibration { history, windows, window, schedule, time_zone, exclude } = raw;
        let mut errors = Errors::default();
        let mut span = |spec: &DurationSpec, field: &str, least: SignedDuration| {
            let span = duration(spec).filter(|span| *span >= least);
            if span.is_none() {
                let remedy = format!("{}, and at least {least:#}", duration::REMEDY);
                errors.invalid(format!("{path}.{field}"), spec, remedy);
            }
            span
        };
        let window = window.as_ref().map_or(Some(WINDOW), |spec| span(spec, "window", SHORTEST));
        let history = span(history, "history", window.unwrap_or(SHORTEST));
        let text = schedule.as_deref().unwrap_or(SCHEDULE);
        let schedule = Cron::parse(text)
            .map_err(|error| errors.invalid(format!("{path}.schedule"), &text, error))
            .ok();
        let name = time_zone.as_deref().unwrap_or("UTC");
        let zone = cron::zone(name);
        if zone.is_none() {
            let remedy = "is no time zone; write its place, such as Europe/Berlin, or leave it out \
                          for UTC";
            errors.invalid(format!("{path}.timeZone"), &name, remedy);
        }
        let spans = exclude.iter().enumerate();
        let exclude = spans
            .filter_map(|(i, raw)| {
                Recurring::parse(raw, &format!("{path}.exclude[{i}]"), &mut errors)
            })
            .collect();
        let errors = errors.into_inner();
        let known = (window, history, schedule, zone, errors.is_empty());
        let (Some(window), Some(history), Some(schedule), Some(zone), true) = known else {
            return Err(errors);
        };
        let windows = windows.and_then(|count| usize::try_from(count).ok()).unwrap_or(WINDOWS);
        Ok(Self { history, windows, window, exclude, schedule, zone })
    }

    /// When it is learnt again after `last`.
    #[must_use]
    pub fn next(&self, last: Timestamp) -> Option<Timestamp> {
        self.schedule.next_after(last, &self.zone)
    }

    /// Windows that fit, at most.
    #[must_use]
    pub fn room(&self) -> usize {
        let room = self.history.as_secs() / self.window.as_secs().max(1);
        self.windows.min(usize::try_from(room).unwrap_or(0))
    }
}

/// What is wrong with a calibration at `path` whose comparisons run at `risk`.
#[must_use]
pub fn check(raw: &Calibration, risk: f64, path: &str) -> Vec<SpecError> {
    let plan = match CalibrationPlan::parse(raw, path) {
        Ok(plan) => plan,
        Err(errors) => return errors,
    };
    let (room, needed) = (plan.room(), windows_needed(risk));
    let mut errors = Errors::default();
    if room < needed {
        let percent = 100.0 * risk;
        let remedy = format!(
            "has {room} windows of {:#}, a risk of {percent}% needs {needed}: write a longer history, \
             shorter windows or a larger risk",
            plan.window
        );
        errors.invalid(format!("{path}.history"), &raw.history, remedy);
    }
    errors.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::rollout::Window;

    fn text(text: &str) -> DurationSpec {
        DurationSpec::Text(text.to_owned())
    }

    fn of(history: &str) -> Calibration {
        Calibration { history: text(history), ..Calibration::default() }
    }

    fn said(errors: Vec<SpecError>) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_left_out_is_an_hour_and_mondays_at_four() {
        let plan = CalibrationPlan::parse(&of("14d"), "spec.calibration").unwrap();
        assert_eq!((plan.windows, plan.window, plan.room()), (360, WINDOW, 336));
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(plan.next(at("2026-01-01T00:00:00Z")), Some(at("2026-01-05T04:00:00Z")));
        let berlin = Calibration {
            schedule: Some("30 2 * * *".to_owned()),
            time_zone: Some("Europe/Berlin".to_owned()),
            ..of("14d")
        };
        let plan = CalibrationPlan::parse(&berlin, "spec.calibration").unwrap();
        assert_eq!(plan.next(at("2026-01-01T00:00:00Z")), Some(at("2026-01-01T01:30:00Z")));
    }

    #[test]
    fn every_wrong_field_is_named_with_what_to_write() {
        let wrong = Calibration {
            history: text("30m"),
            windows: None,
            window: Some(text("1m")),
            schedule: Some("daily".to_owned()),
            time_zone: Some("Mars".to_owned()),
            exclude: vec![Window { cron: "x".to_owned(), ..Window::default() }],
        };
        let said = said(CalibrationPlan::parse(&wrong, "spec.calibration").unwrap_err());
        for (error, words) in said.iter().zip([
            "spec.calibration.window: \"1m\": must be seconds",
            "spec.calibration.schedule: \"daily\": has 1 fields",
            "spec.calibration.timeZone: \"Mars\": is no time zone",
            "spec.calibration.exclude[0].cron",
            "spec.calibration.exclude[0].duration",
        ]) {
            assert!(error.starts_with(words), "{error}");
        }
        assert_eq!(said.len(), 5);
    }

    #[test]
    fn a_history_that_cannot_keep_the_risk_is_refused_with_the_numbers() {
        assert_eq!(check(&of("5d"), 0.01, "spec.calibration"), []);
        let found = said(check(&of("2d"), 0.01, "spec.calibration"));
        let expected = "spec.calibration.history: \"2d\": has 48 windows of 1h, a risk of 1% needs 99: \
                        write a longer history, shorter windows or a larger risk";
        assert_eq!(found, [expected]);
        assert_eq!(check(&of("2d"), 0.05, "spec.calibration"), []);
    }
}
