//! What users set: by hand, by scripts, by whoever may write their files.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use pgkeep_core::schedule::CronExpression;
use pgkeep_dump::fuzzing as dump;
use pgkeep_dump::{ConnectSettings, Selection};

use crate::sql::is_one;

/// What is planted in seeds where a secret belongs: long enough to be nothing else.
const CANARY: &str = "s3cret-canary";

/// Connection strings: what is told of one never holds its password.
pub(super) fn connection(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    // What names files would read them.
    let names_files = |name: &str| name.contains("file") || name.starts_with("ssl") || name == "service";
    let Ok(pairs) = dump::conninfo(&text) else {
        if let Err(error) = ConnectSettings::parse(&text, &BTreeMap::new(), None) {
            assert!(names_it(&text) || !error.to_string().contains(CANARY), "{error}");
        }
        return;
    };
    if pairs.iter().any(|(name, _)| names_files(name)) {
        return;
    }
    let elsewhere =
        pairs.iter().any(|(name, value)| name.contains(CANARY) || (name != "password" && value.contains(CANARY)));
    match ConnectSettings::parse(&text, &BTreeMap::new(), None) {
        Ok(settings) => {
            let told = format!("{settings} {settings:#?} {} {}", settings.server(), settings.database());
            assert!(elsewhere || !told.contains(CANARY), "{told}");
        }
        Err(error) => assert!(elsewhere || !error.to_string().contains(CANARY), "{error}"),
    }
}

/// Whether the canary may stand where a parameter's name does, which errors tell: in a URL only behind a `?` or a `&`.
fn names_it(text: &str) -> bool {
    let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
    text.split(['?', '&']).skip(usize::from(is_url)).any(|part| part.contains(CANARY))
}

/// A line of a password file says what was put into it.
pub(super) fn pgpass(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    dump::password(&text, "localhost", 5432, "d", "u");
    let fields: Vec<&str> = text.splitn(4, '\n').collect();
    let [host, database, user, password] = fields[..] else { return };
    let line = dump::password_line(host, 5432, database, user, password);
    if password.is_empty() || host.starts_with('#') || line.contains(['\n', '\r']) {
        return;
    }
    let found = dump::password(&line, host, 5432, database, user);
    assert!(found.as_deref() == Some(password), "{line}");
    assert!(host == "*" || dump::password(&line, &format!("{host}x"), 5432, database, user).is_none(), "{line}");
}

/// Service files.
pub(super) fn service(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(Some(pairs)) = dump::service("x", &text) {
        let mut names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|two| two[0] != two[1]), "each has one value");
    }
}

/// Cron expressions: the next run is the next one.
pub(super) fn cron(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok(expression) = CronExpression::parse(&text) else { return };
    let again = CronExpression::parse(expression.fields()).expect("its own fields");
    assert!(again.fields() == expression.fields(), "it is shown as it is");
    let now: DateTime<Utc> = DateTime::from_timestamp(1_760_000_000, 0).expect("a time");
    let runs: Vec<_> = expression.runs_after(now).take(3).collect();
    assert!(runs.is_sorted_by(|one, two| one < two) && runs.iter().all(|run| *run > now), "{runs:?}");
    assert!(runs.first().copied() == expression.next_after(now), "{runs:?}");
    if let Some(&run) = runs.first() {
        assert!(expression.latest_at(run) == Some(run), "it runs when it runs");
        assert!(expression.previous_before(run).is_none_or(|before| before <= now), "nothing lies between");
    }
    let _ = (expression.words(), expression.on_calendar(), expression.minutes().count());
    // A thousand years of searching must not take one.
    let _ = expression.longest_gap();
}

/// Every setting as a variable, one a line: what is told of them holds no secret.
pub(super) fn settings(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let variables: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let secret = |name: &str| name == "DATABASE_URL" || name.contains("SECRET") || name.contains("PASSWORD");
    let elsewhere =
        variables.iter().any(|(name, value)| name.contains(CANARY) || !secret(name) && value.contains(CANARY));
    let (Ok(told) | Err(told)) = pgkeep::fuzzing::settings(variables);
    assert!(elsewhere || !told.contains(CANARY), "{told}");
    if let Ok(duration) = pgkeep::fuzzing::duration(&text) {
        assert!(std::time::Instant::now().checked_add(duration).is_some(), "any time can be that much later");
    }
}

/// Env-files and config files: errors quote no line.
pub(super) fn files(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Err(told) = pgkeep::fuzzing::env_file(&text) {
        assert!(!told.contains(CANARY), "{told}");
    }
    for database in [None, Some("a")] {
        let read = pgkeep::fuzzing::config_file(&text, database);
        if let Ok(values) = read {
            assert!(values.keys().all(|key| !key.is_empty()), "{values:?}");
        }
    }
}

/// pg_dump's options, as a line: what is passed on is understood the same again, and no pattern becomes more SQL.
pub(super) fn dump_options(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Some(words) = pgkeep::fuzzing::words(&text) else { return };
    let Ok((selection, _)) = Selection::parse(&words) else { return };
    assert!(selection.arguments.iter().all(|argument| argument.starts_with("--")), "{:?}", selection.arguments);
    let (again, _) = Selection::parse(&selection.arguments).expect("its own arguments");
    assert!(again.arguments == selection.arguments, "they are passed on as they were understood");
    let _ = (
        selection.check(15),
        selection.check(18),
        Selection::is_whole(&selection.arguments),
        selection.is_everything(),
    );
    for word in &words {
        if let Some(sql) = dump::pattern(word) {
            assert!(is_one(sql.as_bytes(), &["select"]), "{sql}");
        }
    }
}
