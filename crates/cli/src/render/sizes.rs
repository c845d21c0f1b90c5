//! Sizes, durations and ages for people.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// `1 row`, `2 rows`, `3 copies`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (number, Some(stem)) => format!("{number} {stem}ies"),
        (number, None) => format!("{number} {noun}s"),
    }
}

/// `45M`, as the procedures' log and metadata have it: rounded up, `du -h`'s way.
pub(crate) fn short_size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "";
    for next in ["K", "M", "G", "T"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit.is_empty() || value > 9.9 {
        format!("{:.0}{unit}", value.ceil())
    } else {
        format!("{:.1}{unit}", (value * 10.0).ceil() / 10.0)
    }
}

/// `187 MB`, as PostgreSQL's `pg_size_pretty` has it.
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["bytes", "kB", "MB", "GB"] {
        if value < 10_240.0 {
            return format!("{value:.0} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.0} TB")
}

/// `132 seconds`, `1.4 seconds` under ten, `2 h 5 min` from two hours.
pub(crate) fn elapsed(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    match seconds {
        0..10 => format!("{:.1} seconds", elapsed.as_secs_f64()),
        10..7_200 => format!("{seconds} seconds"),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// `5 min ago`.
pub(crate) fn ago(then: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let age = age(then, now);
    if age.ends_with(char::is_alphabetic) && age.starts_with(|c: char| c.is_ascii_digit()) {
        format!("{age} ago")
    } else {
        age
    }
}

/// `5 min`, `3 h`, `12 d`: how old.
pub(crate) fn age(then: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let minutes = (now - then).num_minutes();
    match minutes {
        i64::MIN..0 => "in the future".to_owned(),
        0 => "just now".to_owned(),
        1..120 => format!("{minutes} min"),
        120..2_880 => format!("{} h", minutes / 60),
        _ => format!("{} d", minutes / 1_440),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(short_size(0), "0");
        assert_eq!(short_size(45 << 20), "45M");
        assert_eq!(short_size(1536 << 10), "1.5M");
        assert_eq!(short_size(3 << 40), "3.0T");
        assert_eq!(size(187 << 20), "187 MB");
        assert_eq!(size(900), "900 bytes");
    }

    #[test]
    fn durations_and_ages() {
        assert_eq!(elapsed(Duration::from_millis(1_440)), "1.4 seconds");
        assert_eq!(elapsed(Duration::from_secs(132)), "132 seconds");
        assert_eq!(elapsed(Duration::from_mins(125)), "2 h 5 min");
        let now = Utc::now();
        assert_eq!(age(now - chrono::Duration::minutes(5), now), "5 min");
        assert_eq!(age(now - chrono::Duration::days(12), now), "12 d");
        assert_eq!(ago(now, now), "just now");
        assert_eq!(ago(now - chrono::Duration::hours(3), now), "3 h ago");
        assert_eq!(age(now + chrono::Duration::days(1), now), "in the future");
    }
}
