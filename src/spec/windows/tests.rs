use super::*;
use crate::api::DurationSpec;

fn window(cron: &str, zone: &str, lasts: &str) -> Window {
    Window {
        cron: cron.into(),
        time_zone: Some(zone.into()),
        duration: DurationSpec::Text(lasts.into()),
    }
}

fn calendar(windows: &[Window], freezes: &[Window]) -> Calendar {
    let mut errors = Errors::default();
    let calendar = Calendar::parse(windows, freezes, &mut errors);
    assert_eq!(errors.into_inner(), []);
    calendar
}

fn said(calendar: &Calendar, at: &str) -> Option<(bool, String, String)> {
    let closed = calendar.closed(at.parse().unwrap())?;
    Some((closed.frozen, closed.said, closed.opens.map_or("never".into(), |t| t.to_string())))
}

fn office() -> Window {
    window("0 9 * * 1-5", "Europe/Berlin", "8h")
}

#[test]
fn outside_every_window_it_says_when_the_next_opens_on_its_own_clock() {
    let calendar = calendar(&[office()], &[]);
    // 2026-11-30 is a Monday; Berlin is an hour ahead.
    for (at, expected) in [
        ("2026-11-30T07:59:59Z", Some(("Mon 09:00 Europe/Berlin", "2026-11-30T08:00:00Z"))),
        ("2026-11-30T08:00:00Z", None),
        ("2026-11-30T15:59:59Z", None),
        ("2026-11-30T16:00:00Z", Some(("Tue 09:00 Europe/Berlin", "2026-12-01T08:00:00Z"))),
        ("2026-12-05T12:00:00Z", Some(("Mon 09:00 Europe/Berlin", "2026-12-07T08:00:00Z"))),
    ] {
        let expected = expected.map(|(s, at)| (false, s.to_owned(), at.to_owned()));
        assert_eq!(said(&calendar, at), expected, "{at}");
    }
}

#[test]
fn without_windows_only_freezes_hold() {
    assert_eq!(said(&Calendar::default(), "2026-11-30T03:00:00Z"), None);
    let calendar = calendar(&[], &[window("0 12 20 12 *", "UTC", "14d")]);
    assert_eq!(said(&calendar, "2026-12-20T11:59:59Z"), None);
    let expected = ("Sun 2027-01-03 12:00 UTC".to_owned(), "2027-01-03T12:00:00Z".to_owned());
    assert_eq!(said(&calendar, "2026-12-20T12:00:00Z"), Some((true, expected.0, expected.1)));
    assert_eq!(said(&calendar, "2027-01-03T12:00:00Z"), None);
}

#[test]
fn a_freeze_wins_over_a_window_and_what_opens_is_after_both() {
    // Frozen from Friday noon to Monday noon.
    let calendar = calendar(&[office()], &[window("0 12 * * 5", "Europe/Berlin", "72h")]);
    assert_eq!(said(&calendar, "2026-12-04T10:59:59Z"), None);
    for at in ["2026-12-04T11:00:00Z", "2026-12-07T09:00:00Z"] {
        let (frozen, clock, opens) = said(&calendar, at).unwrap();
        assert!(frozen, "{at}");
        assert_eq!(
            (clock.as_str(), opens.as_str()),
            ("Mon 12:00 Europe/Berlin", "2026-12-07T11:00:00Z")
        );
    }
    let (frozen, clock, _) = said(&calendar, "2026-12-07T17:00:00Z").unwrap();
    assert_eq!((frozen, clock.as_str()), (false, "Tue 09:00 Europe/Berlin"));
}

#[test]
fn a_window_lasts_for_real_hours_when_the_clocks_change() {
    // Berlin: 2027-03-28 from 02:00 to 03:00, 2026-10-25 from 03:00 back to 02:00.
    let night = calendar(&[window("0 1 * * *", "Europe/Berlin", "3h")], &[]);
    assert_eq!(said(&night, "2027-03-28T00:00:00Z"), None);
    assert_eq!(said(&night, "2027-03-28T02:59:59Z"), None, "05:00 on the wall");
    assert!(said(&night, "2027-03-28T03:00:00Z").is_some());
    assert_eq!(said(&night, "2026-10-25T01:59:59Z"), None, "03:00 on the wall");
    assert!(said(&night, "2026-10-25T02:00:00Z").is_some());
    let gap = calendar(&[window("30 2 * * *", "Europe/Berlin", "1h")], &[]);
    assert_eq!(
        said(&gap, "2027-03-28T01:00:00Z").map(|s| s.1).as_deref(),
        Some("Sun 03:30 Europe/Berlin"),
        "a beginning that does not exist comes as late as without the change"
    );
}

#[test]
fn spans_that_meet_are_one() {
    let calendar = calendar(&[], &[window("0 0 * * 6,0", "UTC", "24h")]);
    let (_, clock, _) = said(&calendar, "2026-12-05T10:00:00Z").unwrap();
    assert_eq!(clock, "Mon 00:00 UTC");
}

#[test]
fn where_nothing_ever_opens_it_says_so() {
    let calendar = calendar(&[office()], &[window("0 0 * * *", "UTC", "24h")]);
    let (frozen, clock, opens) = said(&calendar, "2026-11-30T09:00:00Z").unwrap();
    assert!(frozen);
    assert_eq!((clock.as_str(), opens.as_str()), ("at no time that can be foreseen", "never"));
}

#[test]
fn what_cannot_be_meant_is_refused_with_path_and_remedy() {
    for (wrong, path, says) in [
        (window("0 0 30 2 *", "UTC", "1h"), "spec.windows[0].cron", "never fires"),
        (window("0 9 * *", "UTC", "1h"), "spec.windows[0].cron", "has 4 fields"),
        (window("0 9 * * *", "Europe/Berln", "1h"), "spec.windows[0].timeZone", "no time zone"),
        (window("0 9 * * *", "UTC", "0s"), "spec.windows[0].duration", "above 0"),
        (window("0 9 * * *", "UTC", "soon"), "spec.windows[0].duration", "must be seconds"),
        (window("0 9 * * *", "UTC", "25h"), "spec.windows[0].duration", "longer than the 24h"),
        (window("*/5 * * * *", "UTC", "10m"), "spec.windows[0].duration", "longer than the 5m"),
    ] {
        let mut errors = Errors::default();
        Calendar::parse(std::slice::from_ref(&wrong), &[], &mut errors);
        let errors = errors.into_inner();
        let [error] = errors.as_slice() else { panic!("{wrong:?}: {errors:?}") };
        assert_eq!(error.path(), path);
        assert!(error.to_string().contains(says), "{error}");
    }
}
