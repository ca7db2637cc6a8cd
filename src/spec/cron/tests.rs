use super::*;

fn firings(cron: &str, tz: &str, after: &str, count: usize) -> Vec<String> {
    let zone = zone(tz).unwrap();
    let cron = Cron::parse(cron).unwrap();
    let mut at: Timestamp = after.parse().unwrap();
    let mut out = Vec::new();
    for _ in 0..count {
        at = cron.next_after(at, &zone).unwrap();
        out.push(at.to_zoned(zone.clone()).strftime("%a %m-%d %H:%M%:z").to_string());
    }
    out
}

#[test]
fn the_fields_mean_what_a_crontab_says() {
    // 2026-11-30 is a Monday.
    let from = "2026-11-30T00:00:00Z";
    for (cron, expected) in [
        ("0 9 * * 1-5", vec!["Mon 11-30 09:00", "Tue 12-01 09:00", "Wed 12-02 09:00"]),
        ("0 9 * * 1", vec!["Mon 11-30 09:00", "Mon 12-07 09:00", "Mon 12-14 09:00"]),
        ("30 8 * * 0", vec!["Sun 12-06 08:30", "Sun 12-13 08:30", "Sun 12-20 08:30"]),
        ("30 8 * * 7", vec!["Sun 12-06 08:30", "Sun 12-13 08:30", "Sun 12-20 08:30"]),
        ("0 0 * * fri-7", vec!["Fri 12-04 00:00", "Sat 12-05 00:00", "Sun 12-06 00:00"]),
        ("0 0 * * MON,wed", vec!["Wed 12-02 00:00", "Mon 12-07 00:00", "Wed 12-09 00:00"]),
        ("0 0 * * */3", vec!["Wed 12-02 00:00", "Sat 12-05 00:00", "Sun 12-06 00:00"]),
        ("0 0 * * 3/2", vec!["Wed 12-02 00:00", "Fri 12-04 00:00", "Wed 12-09 00:00"]),
        ("*/20 4 * * *", vec!["Mon 11-30 04:00", "Mon 11-30 04:20", "Mon 11-30 04:40"]),
        ("5/25 4 * * ?", vec!["Mon 11-30 04:05", "Mon 11-30 04:30", "Mon 11-30 04:55"]),
        ("0 8-18/5 * * *", vec!["Mon 11-30 08:00", "Mon 11-30 13:00", "Mon 11-30 18:00"]),
        ("0 0 1 jan,JUL *", vec!["Fri 01-01 00:00", "Thu 07-01 00:00", "Sat 01-01 00:00"]),
        ("0 0 29 2 *", vec!["Tue 02-29 00:00", "Sun 02-29 00:00", "Fri 02-29 00:00"]),
    ] {
        let expected: Vec<String> = expected.into_iter().map(|t| format!("{t}+00:00")).collect();
        assert_eq!(firings(cron, "UTC", from, 3), expected, "{cron}");
    }
}

#[test]
fn with_both_day_fields_restricted_either_is_enough_as_in_cronjobs() {
    let from = "2026-11-30T12:00:00Z";
    // The 4th is a Friday, the 13th a Sunday.
    assert_eq!(
        firings("0 0 13 * 5", "UTC", from, 3),
        ["Fri 12-04 00:00+00:00", "Fri 12-11 00:00+00:00", "Sun 12-13 00:00+00:00"]
    );
    assert_eq!(
        firings("0 0 30 2 5", "UTC", from, 1),
        ["Fri 02-05 00:00+00:00"],
        "the day of month never comes, the Friday does"
    );
    assert_eq!(
        firings("0 0 */15 * 5", "UTC", from, 3),
        ["Tue 12-01 00:00+00:00", "Fri 12-04 00:00+00:00", "Fri 12-11 00:00+00:00"],
        "a step restricts"
    );
}

#[test]
fn a_time_that_the_spring_gap_leaves_out_fires_as_late_as_without_the_change() {
    // Berlin goes from 02:00 to 03:00 on 2027-03-28.
    let from = "2027-03-27T12:00:00Z";
    assert_eq!(
        firings("30 2 * * *", "Europe/Berlin", from, 2),
        ["Sun 03-28 03:30+02:00", "Mon 03-29 02:30+02:00"]
    );
    assert_eq!(
        firings("30 2,3 * * *", "Europe/Berlin", from, 2),
        ["Sun 03-28 03:30+02:00", "Mon 03-29 02:30+02:00"],
        "two of one instant are one"
    );
    assert_eq!(
        firings("30 * * * *", "Europe/Berlin", "2027-03-28T00:00:00Z", 2),
        ["Sun 03-28 01:30+01:00", "Sun 03-28 03:30+02:00"],
        "every hour knows no hour that is left out"
    );
    // Cairo goes from 00:00 to 01:00 on 2027-04-30: the day has no midnight.
    assert_eq!(
        firings("0 0 * * 5", "Africa/Cairo", "2027-04-29T12:00:00Z", 2),
        ["Fri 04-30 01:00+03:00", "Fri 05-07 00:00+03:00"]
    );
}

#[test]
fn a_time_that_the_autumn_fold_shows_twice_fires_the_first_time() {
    // Berlin goes from 03:00 back to 02:00 on 2026-10-25.
    let from = "2026-10-24T12:00:00Z";
    assert_eq!(
        firings("30 2 * * *", "Europe/Berlin", from, 2),
        ["Sun 10-25 02:30+02:00", "Mon 10-26 02:30+01:00"]
    );
    assert_eq!(
        firings("30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 3),
        ["Sun 10-25 02:30+02:00", "Sun 10-25 02:30+01:00", "Sun 10-25 03:30+01:00"],
        "every hour follows the real hours"
    );
}

#[test]
fn a_near_firing_is_the_one_that_whole_days_give() {
    for (cron, tz) in [
        ("*/7 * * * *", "Europe/Berlin"),
        ("30 2 * * *", "Europe/Berlin"),
        ("15 3,9 * * 1-5", "America/New_York"),
        ("0 0 1 * *", "Australia/Lord_Howe"),
        ("59 23 * * *", "Pacific/Apia"),
    ] {
        let (zone, parsed) = (zone(tz).unwrap(), Cron::parse(cron).unwrap());
        // Twelve days about each change of 2026, and that day which Apia left out.
        for begin in ["2026-03-20", "2026-10-20", "2026-03-03", "2026-10-28", "2011-12-24"] {
            let begin: Timestamp = format!("{begin}T00:00:30Z").parse().unwrap();
            for step in 0..(12 * 24 * 4) {
                let at = begin + SignedDuration::from_mins(15 * step);
                let slow = parsed.after_whole_days(at, &zone);
                assert_eq!(parsed.next_after(at, &zone), slow, "{cron} {tz} {at}");
            }
        }
    }
}

#[test]
fn a_zone_is_its_place_on_the_map() {
    let from = "2026-11-30T00:00:00Z";
    assert_eq!(firings("0 9 * * *", "Asia/Kolkata", from, 1), ["Mon 11-30 09:00+05:30"]);
    assert_eq!(firings("0 9 * * *", "America/New_York", from, 1), ["Mon 11-30 09:00-05:00"]);
    assert_eq!(firings("0 9 * * *", "utc", from, 1), ["Mon 11-30 09:00+00:00"]);
    for unknown in ["Europe/Berln", "Mars", "CEST+1", ""] {
        assert!(zone(unknown).is_none(), "{unknown}");
    }
}

#[test]
fn what_is_no_schedule_is_refused_by_the_field() {
    for (cron, says) in [
        ("0 9 * *", "has 4 fields"),
        ("0 0 9 * * 1", "has 6 fields"),
        ("@daily", "has 1 fields"),
        ("60 9 * * *", "minute `60` must be from 0 to 59"),
        ("*/0 9 * * *", "minute `*/0`"),
        ("0 24 * * *", "hour `24`"),
        ("0 9-8 * * *", "hour `9-8`"),
        ("0 9 0 * *", "day of month `0`"),
        ("0 9 32 * *", "day of month `32`"),
        ("0 9 L * *", "day of month `L`"),
        ("0 9 * 13 *", "month `13`"),
        ("0 9 * foo *", "month `foo`"),
        ("0 9 * * 8", "day of week `8` must be from 0 to 7 or SUN to SAT"),
        ("0 9 * * fri-mon", "day of week `fri-mon`"),
        ("0 9 * * 1#2", "day of week `1#2`"),
        ("0 9 * * 1,", "day of week `1,`"),
        ("0 9 * * */0", "day of week `*/0`"),
        ("0 0 30 2 *", "never fires"),
        ("0 0 31 4,6,9,11 *", "never fires"),
    ] {
        let said = Cron::parse(cron).unwrap_err().to_string();
        assert!(said.contains(says), "{cron}: {said}");
    }
}

#[test]
fn the_shortest_gap_is_that_of_two_neighbours() {
    for (cron, seconds) in [
        ("0 9 * * *", 86_400),
        ("0 9,13 * * *", 4 * 3_600),
        ("*/5 * * * *", 300),
        ("0 9 * * 1,2", 86_400),
        ("0 0 1 * *", 28 * 86_400),
    ] {
        let gap = Cron::parse(cron).unwrap().shortest_gap().map(|g| g.as_secs());
        assert_eq!(gap, Some(seconds), "{cron}");
    }
}
