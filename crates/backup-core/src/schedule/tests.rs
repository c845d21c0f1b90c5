use std::collections::BTreeSet;

use chrono::{Datelike, FixedOffset, MappedLocalTime, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike};
use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> CronExpression {
    CronExpression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn utc(text: &str) -> DateTime<Utc> {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap().and_utc()
}

#[test]
fn next_times() {
    for (text, after, expected) in [
        ("0 3 * * *", "2025-10-17 03:00:00", "2025-10-18 03:00:00"),
        ("0 3 * * *", "2025-10-17 02:59:59", "2025-10-17 03:00:00"),
        ("0 2 * * 0", "2025-10-17 00:00:00", "2025-10-19 02:00:00"),
        ("0 2 * * 7", "2025-10-17 00:00:00", "2025-10-19 02:00:00"),
        ("0 2 * * SUN", "2025-10-17 00:00:00", "2025-10-19 02:00:00"),
        ("0 1 1 * *", "2025-12-01 01:00:00", "2026-01-01 01:00:00"),
        ("0 */6 * * *", "2025-10-17 12:00:01", "2025-10-17 18:00:00"),
        ("0 2 * * 1-5", "2025-10-17 02:00:00", "2025-10-20 02:00:00"),
        ("0 2 * * mon-fri", "2025-10-17 02:00:00", "2025-10-20 02:00:00"),
        ("0 2,14 * * *", "2025-10-17 02:00:00", "2025-10-17 14:00:00"),
        ("0 0 29 2 *", "2096-03-01 00:00:00", "2104-02-29 00:00:00"),
        ("0 0 31 * *", "2025-03-31 00:00:00", "2025-05-31 00:00:00"),
        // Either of the day fields is enough…
        ("0 0 13 * 5", "2025-10-13 00:00:00", "2025-10-17 00:00:00"),
        ("0 0 13 * 5", "2025-10-10 00:00:00", "2025-10-13 00:00:00"),
        // …unless one begins with a star.
        ("0 0 */2 * 1", "2025-10-17 00:00:00", "2025-10-27 00:00:00"),
        ("@weekly", "2025-10-17 00:00:00", "2025-10-19 00:00:00"),
        ("@yearly", "2025-10-17 00:00:00", "2026-01-01 00:00:00"),
        ("  5\t4 * jan,Jul  * ", "2025-01-31 04:05:00", "2025-07-01 04:05:00"),
    ] {
        assert_eq!(parse(text).next_after(utc(after)), Some(utc(expected)), "{text} after {after}");
    }
}

#[test]
fn previous_times() {
    let daily = parse("0 3 * * *");
    assert_eq!(daily.previous_before(utc("2025-10-17 03:00:00")), Some(utc("2025-10-16 03:00:00")));
    assert_eq!(daily.previous_before(utc("2025-10-17 03:00:01")), Some(utc("2025-10-17 03:00:00")));
    assert_eq!(daily.latest_at(utc("2025-10-17 03:00:00")), Some(utc("2025-10-17 03:00:00")));
    assert_eq!(parse("0 0 29 2 *").previous_before(utc("2104-02-29 00:00:00")), Some(utc("2096-02-29 00:00:00")));
}

#[test]
fn what_is_no_expression() {
    for (text, message) in [
        ("", "has 0"),
        ("0 3 * *", "has 4"),
        ("0 0 3 * * *", "has 6"),
        ("60 3 * * *", "60 is no minute: 0 to 59"),
        ("0 24 * * *", "24 is no hour: 0 to 23"),
        ("0 0 0 * *", "0 is no day of the month"),
        ("0 0 * 13 *", "13 is no month"),
        ("0 0 * * 8", "8 is no weekday"),
        ("0 0 * * someday", "\"someday\" is no weekday"),
        ("0 0 * jan-foo *", "\"foo\" is no month"),
        ("-1 0 * * *", "\"\" is no minute"),
        ("+1 0 * * *", "\"+1\" is no minute"),
        ("1, 0 * * *", "\"\" is no minute"),
        ("0 22-4 * * *", "runs backwards"),
        ("*/0 * * * *", "\"0\" is no step"),
        ("*/61 * * * *", "\"61\" is no step"),
        ("*/+5 * * * *", "\"+5\" is no step"),
        ("5/15 * * * *", "needs a range"),
        ("@reboot", "@reboot is none of"),
        ("0 0 30 2 *", "never run"),
        ("0 0 31 4,6,9,11 *", "never run"),
        ("? ? ? ? ?", "\"?\" is no minute"),
    ] {
        let error = CronExpression::parse(text).unwrap_err().to_string();
        assert!(error.contains(message), "{text}: {error}");
    }
}

#[test]
fn in_words() {
    for (text, words) in [
        ("0 3 * * *", "at 03:00 every day"),
        ("0 2 * * 0", "at 02:00 on Sundays"),
        ("0 1 1 * *", "at 01:00 on the 1st of the month"),
        ("0 */6 * * *", "at 00:00, 06:00, 12:00 and 18:00 every day"),
        ("0 2 * * 1-5", "at 02:00 from Monday to Friday"),
        ("0 2,14 * * *", "at 02:00 and 14:00 every day"),
        ("*/15 * * * *", "every 15 minutes"),
        ("* * * * *", "every minute"),
        ("@hourly", "every hour"),
        ("30 * * * *", "at minute 30 of every hour"),
        ("5,35 * * * *", "at minutes 5 and 35 of every hour"),
        ("0 */2 * * 6,0", "every 2 hours from 00:00 to 22:00 on Sundays and Saturdays"),
        ("*/10 8-17 * * *", "every 10 minutes of the hours 8 to 17"),
        ("0 0 13 * 5", "at 00:00 on the 13th of the month, and also on Fridays"),
        ("0 0 1,15 1,7 *", "at 00:00 on the 1st and 15th of the month, only in January and July"),
        ("0 0 22 2 *", "at 00:00 on the 22nd of the month, only in February"),
    ] {
        assert_eq!(parse(text).words(), words, "{text}");
    }
}

#[test]
fn as_systemd_has_them() {
    for (text, events) in [
        ("0 3 * * *", vec!["*-*-* 03:00:00 UTC"]),
        ("0 2 * * 0", vec!["Sun *-*-* 02:00:00 UTC"]),
        ("0 1 1 * *", vec!["*-*-01 01:00:00 UTC"]),
        ("0 */6 * * *", vec!["*-*-* 00,06,12,18:00:00 UTC"]),
        ("*/15 8-17 * 1,7 1-5", vec!["Mon,Tue,Wed,Thu,Fri *-01,07-* 08..17:00,15,30,45:00 UTC"]),
        ("0 0 13 * 5", vec!["*-*-13 00:00:00 UTC", "Fri *-*-* 00:00:00 UTC"]),
        ("0 0 */10 * 5", vec!["Fri *-*-01,11,21,31 00:00:00 UTC"]),
        ("@hourly", vec!["*-*-* *:00:00 UTC"]),
        ("* * * * *", vec!["*-*-* *:*:00 UTC"]),
    ] {
        assert_eq!(parse(text).on_calendar(), events, "{text}");
    }
    assert_eq!(parse("@weekly").fields(), "0 0 * * 0");
}

#[test]
fn longest_gaps() {
    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;
    for (text, seconds) in [
        ("* * * * *", 60),
        ("0 3 * * *", DAY),
        ("0 */6 * * *", 6 * HOUR),
        ("0 2,14 * * *", 12 * HOUR),
        ("0 2 * * 1-5", 3 * DAY),
        ("0 2 * * 0", 7 * DAY),
        ("0 1 1 * *", 31 * DAY),
        ("0 1 31 * *", 61 * DAY),
        ("0 1 30 * *", 60 * DAY),
        ("0 0 1 1 *", 366 * DAY),
        ("0 0 29 2 *", (8 * 365 + 1) * DAY),
        ("0 8-18/2 * * 1-5", (3 * 24 - 10) * HOUR),
    ] {
        assert_eq!(parse(text).longest_gap(), Duration::from_secs(seconds), "{text}");
    }
}

#[test]
fn the_schedule_of_the_contract() {
    let schedule = Schedule::default();
    assert_eq!(schedule.longest_gap(), Some(Duration::from_hours(24)));
    let runs = schedule.next_runs(utc("2026-01-30 12:00:00"), 5);
    let runs: Vec<_> = runs.iter().map(|run| format!("{} {}", run.class, run.at.format("%d %H:%M"))).collect();
    assert_eq!(runs, ["daily 31 03:00", "monthly 01 01:00", "weekly 01 02:00", "daily 01 03:00", "daily 02 03:00"]);
    assert_eq!(
        serde_json::to_value(&schedule).unwrap(),
        serde_json::json!({"daily": "0 3 * * *", "weekly": "0 2 * * 0", "monthly": "0 1 1 * *"})
    );
    assert_eq!(Schedule::new([]).longest_gap(), None);
}

#[test]
fn jobs_fill_each_others_gaps() {
    let schedule = Schedule::new([
        (BackupClass::Daily, parse("0 2 * * 1-5")),
        (BackupClass::Weekly, parse("0 2 * * 6")),
        (BackupClass::Monthly, parse("0 1 1 * *")),
    ]);
    assert_eq!(schedule.longest_gap(), Some(Duration::from_hours(48)));
}

#[test]
fn what_is_due() {
    let schedule = Schedule::default();
    let now = utc("2025-10-17 03:20:00");
    let due = |last: Option<&str>| schedule.due(BackupClass::Daily, last.map(utc), now);
    assert_eq!(due(None), Some(utc("2025-10-17 03:00:00")));
    assert_eq!(due(Some("2025-10-16 03:04:00")), Some(utc("2025-10-17 03:00:00")));
    assert_eq!(due(Some("2025-10-17 03:00:00")), None);
    assert_eq!(due(Some("2025-10-17 03:10:00")), None);
    assert_eq!(schedule.due(BackupClass::PreRestore, None, now), None);
}

/// Central Europe's clocks in 2025: turned forward on 30 March at 02:00, back on 26 October at 03:00.
#[derive(Debug, Clone, Copy)]
struct Berlin;

impl Berlin {
    fn hours(hours: i32) -> FixedOffset {
        FixedOffset::east_opt(hours * 3600).unwrap()
    }
}

impl TimeZone for Berlin {
    type Offset = FixedOffset;

    fn from_offset(_: &FixedOffset) -> Self {
        Self
    }

    fn offset_from_local_date(&self, local: &NaiveDate) -> MappedLocalTime<FixedOffset> {
        self.offset_from_local_datetime(&local.and_hms_opt(12, 0, 0).unwrap())
    }

    fn offset_from_local_datetime(&self, local: &NaiveDateTime) -> MappedLocalTime<FixedOffset> {
        let (forward, back) = (utc("2025-03-30 02:00:00").naive_utc(), utc("2025-10-26 02:00:00").naive_utc());
        let hour = TimeDelta::hours(1);
        if *local < forward || *local >= back + hour {
            MappedLocalTime::Single(Self::hours(1))
        } else if *local < forward + hour {
            MappedLocalTime::None
        } else if *local < back {
            MappedLocalTime::Single(Self::hours(2))
        } else {
            MappedLocalTime::Ambiguous(Self::hours(2), Self::hours(1))
        }
    }

    fn offset_from_utc_date(&self, utc: &NaiveDate) -> FixedOffset {
        self.offset_from_utc_datetime(&utc.and_hms_opt(12, 0, 0).unwrap())
    }

    fn offset_from_utc_datetime(&self, at: &NaiveDateTime) -> FixedOffset {
        let summer = utc("2025-03-30 01:00:00").naive_utc()..utc("2025-10-26 01:00:00").naive_utc();
        if summer.contains(at) { Self::hours(2).fix() } else { Self::hours(1).fix() }
    }
}

fn in_berlin(text: &str, after: &str, count: usize) -> Vec<String> {
    let expression = parse(text);
    let first = expression.next_after_in(&utc(after).with_timezone(&Berlin));
    std::iter::successors(first, |last| expression.next_after_in(last))
        .take(count)
        .map(|at| at.with_timezone(&Utc).format("%d %H:%M").to_string())
        .collect()
}

#[test]
fn a_time_that_does_not_exist_is_due_when_the_clock_goes_on() {
    assert_eq!(in_berlin("30 2 * * *", "2025-03-28 12:00:00", 3), ["29 01:30", "30 01:00", "31 00:30"]);
    assert_eq!(in_berlin("0,30 2 * * *", "2025-03-29 12:00:00", 3), ["30 01:00", "31 00:00", "31 00:30"]);
    // Every hour: nothing is due in the hour that is not there.
    assert_eq!(in_berlin("30 * * * *", "2025-03-29 23:00:00", 4), ["29 23:30", "30 00:30", "30 01:30", "30 02:30"]);
}

#[test]
fn a_time_that_comes_twice_is_due_once() {
    assert_eq!(in_berlin("30 2 * * *", "2025-10-25 12:00:00", 2), ["26 00:30", "27 01:30"]);
    // Between the two.
    assert_eq!(in_berlin("30 2 * * *", "2025-10-26 01:00:00", 1), ["27 01:30"]);
    // Every hour: in both.
    assert_eq!(in_berlin("30 * * * *", "2025-10-25 23:00:00", 4), ["25 23:30", "26 00:30", "26 01:30", "26 02:30"]);
}

/// What an expression was written from.
#[derive(Debug, Clone)]
struct Written {
    text: String,
    sets: [BTreeSet<u32>; 5],
    both: bool,
}

impl Written {
    fn day(&self, date: NaiveDate) -> bool {
        let day = self.sets[2].contains(&date.day());
        let weekday = self.sets[4].contains(&date.weekday().num_days_from_sunday());
        self.sets[3].contains(&date.month()) && if self.both { day && weekday } else { day || weekday }
    }

    fn minute(&self, at: DateTime<Utc>) -> bool {
        self.day(at.date_naive()) && self.sets[1].contains(&at.hour()) && self.sets[0].contains(&at.minute())
    }
}

fn field(low: u32, high: u32) -> impl Strategy<Value = (String, BTreeSet<u32>)> {
    let size = high - low + 1;
    let part = prop_oneof![
        4 => Just(("*".to_owned(), (low..=high).collect::<BTreeSet<_>>())),
        1 => (1..=size).prop_map(move |step| (format!("*/{step}"), (low..=high).step_by(step as usize).collect())),
        3 => (low..=high).prop_map(|value| (value.to_string(), BTreeSet::from([value]))),
        2 => (low..=high, low..=high, 1..=size).prop_map(|(one, other, step)| {
            let (from, to) = (one.min(other), one.max(other));
            (format!("{from}-{to}/{step}"), (from..=to).step_by(step as usize).collect())
        }),
    ];
    prop::collection::vec(part, 1..3).prop_map(|parts| {
        let text = parts.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(",");
        (text, parts.into_iter().flat_map(|(_, set)| set).collect())
    })
}

prop_compose! {
    fn written()(
        minute in field(0, 59), hour in field(0, 23), day in field(1, 31), month in field(1, 12), weekday in field(0, 6)
    ) -> Written {
        let both = day.0.starts_with('*') || weekday.0.starts_with('*');
        let text = [&minute.0, &hour.0, &day.0, &month.0, &weekday.0].map(String::as_str).join(" ");
        Written { text, sets: [minute.1, hour.1, day.1, month.1, weekday.1], both }
    }
}

/// Minutes that are walked: a bit over two months.
const WALK: i64 = 64 * 24 * 60;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn next_and_previous_are_what_a_walk_by_minutes_finds(
        written in written(), seconds in 1_700_000_000_i64..1_900_000_000
    ) {
        let from = DateTime::from_timestamp(seconds, 0).unwrap();
        let minute = from - TimeDelta::seconds(i64::from(from.second()));
        let walked = (1..WALK).map(|step| minute + TimeDelta::minutes(step)).find(|at| written.minute(*at));
        let back = (0..WALK).map(|step| minute - TimeDelta::minutes(step)).find(|at| *at < from && written.minute(*at));
        match CronExpression::parse(&written.text) {
            Err(error) => {
                prop_assert_eq!(error, CronError::Never);
                prop_assert_eq!(walked, None);
            }
            Ok(expression) => {
                let (next, previous) = (expression.next_after(from).unwrap(), expression.previous_before(from).unwrap());
                prop_assert!(written.minute(next) && next > from);
                prop_assert!(written.minute(previous) && previous < from);
                match walked {
                    Some(walked) => prop_assert_eq!(next, walked),
                    None => prop_assert!(next >= minute + TimeDelta::minutes(WALK)),
                }
                match back {
                    Some(back) => prop_assert_eq!(previous, back),
                    None => prop_assert!(previous <= minute - TimeDelta::minutes(WALK)),
                }
                // A run at `from` itself is between them.
                let begins = if from == minute && written.minute(from) { from } else { previous };
                prop_assert!((next - begins).to_std().unwrap() <= expression.longest_gap());
                prop_assert!((from - previous).to_std().unwrap() <= expression.longest_gap());
                prop_assert_eq!(expression.next_after_in(&from), Some(next));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn the_longest_gap_is_what_a_walk_over_the_calendar_finds(one in written(), other in written()) {
        let both: Vec<_> = [&one, &other].into_iter().filter(|w| CronExpression::parse(&w.text).is_ok()).collect();
        let classes = [BackupClass::Daily, BackupClass::Weekly];
        let schedule = Schedule::new(classes.into_iter().zip(both.iter().map(|written| parse(&written.text))));
        let first = NaiveDate::from_ymd_opt(1999, 7, 14).unwrap();
        let mut runs: Vec<i64> = Vec::new();
        let (mut earliest, mut widest) = (None, 0);
        // One day more than the calendar's cycle closes the circle.
        for number in 0..=i64::from(expression::CYCLE_DAYS) {
            let date = first + TimeDelta::days(number);
            runs.drain(..runs.len().saturating_sub(1));
            for written in both.iter().filter(|written| written.day(date)) {
                for hour in &written.sets[1] {
                    for minute in &written.sets[0] {
                        runs.push(number * 1440 + i64::from(hour * 60 + minute));
                    }
                }
            }
            runs.sort_unstable();
            earliest = earliest.or(runs.first().copied());
            widest = runs.windows(2).map(|pair| pair[1] - pair[0]).chain([widest]).max().unwrap();
        }
        let closing = earliest.map(|earliest| earliest + i64::from(expression::CYCLE_DAYS) * 1440 - runs[runs.len() - 1]);
        let widest = widest.max(closing.unwrap_or(0));
        prop_assert_eq!(schedule.longest_gap(), earliest.map(|_| Duration::from_secs(widest as u64 * 60)));
    }

    #[test]
    fn anything_typed_is_understood_or_refused(text in "[0-9*/,@a-z -]{0,24}") {
        let _ = CronExpression::parse(&text).map(|expression| (expression.words(), expression.longest_gap()));
    }
}
