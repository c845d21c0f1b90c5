//! What of a database is dumped: pg_dump's own options, weighed one by one.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::options::{Known, OPTIONS, Rule, find, unknown};
use crate::{Error, Result};

/// What of the database is dumped, as pg_dump's options select it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// pg_dump arguments that select or shape the dump (`--table=…`, `--schema=…`, `--exclude-table-data=…`), in order,
    /// each in its long form with its value.
    pub arguments: Vec<String>,
}

/// What became of an option that is not simply passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// `--jobs`: so many sessions are wished for.
    Jobs(u32),
    /// `--compress`: a compression in our terms, `zstd:3`, `gzip:9`, `lz4`, `none`.
    Compression(String),
    /// `--lock-wait-timeout`: the longest wait for one lock.
    LockWait(Duration),
    /// It was left out and nothing is lost by it.
    LeftOut {
        /// The option.
        option: String,
        /// Why.
        reason: &'static str,
    },
    /// It is passed on, and the backup holds less than one might think.
    Caution {
        /// The option.
        option: String,
        /// What the backup will lack.
        reason: &'static str,
    },
}

/// Options with which the dump still holds all data.
const WHOLE: [&str; 16] = [
    "strict-names",
    "no-privileges",
    "no-comments",
    "no-publications",
    "no-security-labels",
    "no-subscriptions",
    "no-toast-compression",
    "encoding",
    "quote-all-identifiers",
    "load-via-partition-root",
    "serializable-deferrable",
    "blobs",
    "include-foreign-data",
    "sequence-data",
    "statistics",
    "no-statistics",
];

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Jobs(jobs) => write!(f, "--jobs={jobs} is taken as our own number of jobs"),
            Self::Compression(codec) => write!(f, "--compress is taken as our own compression, {codec}"),
            Self::LockWait(wait) => write!(f, "--lock-wait-timeout is taken as our own, {wait:?}"),
            Self::LeftOut { option, reason } => write!(f, "{option} is left out: {reason}"),
            Self::Caution { option, reason } => write!(f, "{option}: {reason}"),
        }
    }
}

impl Selection {
    /// Weighs pg_dump options one by one: what selects or shapes the dump is taken over, what is ours to decide is
    /// translated into a [`Notice`], what means nothing in an archive is left out with one, everything else is refused.
    ///
    /// Understood are long options with `=` or a following value, unique beginnings of them as getopt takes them, short
    /// options, and several short ones in a word.
    pub fn parse<S: AsRef<str>>(arguments: impl IntoIterator<Item = S>) -> Result<(Self, Vec<Notice>)> {
        let mut parsed = (Self::default(), Vec::new());
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let argument = argument.as_ref();
            let mut following = || arguments.next().map(|value| value.as_ref().to_owned());
            if let Some(long) = argument.strip_prefix("--").filter(|long| !long.is_empty()) {
                let (name, value) =
                    long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value.to_owned())));
                let known = find(name)?;
                let value = match (known.value, value) {
                    (true, None) => Some(following().ok_or_else(|| refused(known, "it needs a value"))?),
                    (false, Some(_)) => return Err(refused(known, "it takes no value")),
                    (_, value) => value,
                };
                take(&mut parsed, known, value)?;
            } else if let Some(shorts) =
                argument.strip_prefix('-').filter(|shorts| !shorts.is_empty() && *shorts != "-")
            {
                let mut rest = shorts.chars();
                while let Some(short) = rest.next() {
                    let known = OPTIONS
                        .iter()
                        .find(|known| known.short == Some(short))
                        .ok_or_else(|| unknown(format!("-{short}"), None))?;
                    let value = match (known.value, rest.as_str()) {
                        (false, _) => None,
                        (true, "") => Some(following().ok_or_else(|| refused(known, "it needs a value"))?),
                        (true, glued) => Some(glued.to_owned()),
                    };
                    take(&mut parsed, known, value)?;
                    if known.value {
                        break;
                    }
                }
            } else {
                let problem = "only options are taken; the database comes from the connection settings".to_owned();
                return Err(Error::DumpOption { option: argument.to_owned(), problem });
            }
        }
        Ok(parsed)
    }

    /// Refuses what this major of pg_dump does not know, or what was never weighed by [`Self::parse`].
    pub fn check(&self, pg_dump_major: u32) -> Result<()> {
        for (name, _) in self.options() {
            let known = find(name)?;
            if !matches!(known.rule, Rule::Pass | Rule::Caution(_)) {
                return Err(refused(known, "it does not select or shape a dump"));
            }
            if known.since > pg_dump_major {
                let problem =
                    format!("it needs pg_dump {} or newer, and this server is dumped by {pg_dump_major}", known.since);
                return Err(Error::DumpOption { option: format!("--{name}"), problem });
            }
        }
        Ok(())
    }

    /// Whether it is the whole database.
    pub fn is_everything(&self) -> bool {
        self.arguments.is_empty()
    }

    /// Whether a dump made with these arguments ([`Self::arguments`]) has all data and all that it needs, so that it can
    /// stand for the whole database: what is left out, if anything, are grants, comments and the like. What is not known
    /// leaves something out.
    pub fn is_whole(arguments: &[String]) -> bool {
        arguments.iter().all(|argument| {
            let long = argument.trim_start_matches('-');
            WHOLE.contains(&long.split_once('=').map_or(long, |(name, _)| name))
        })
    }

    /// Names and values of the options.
    pub(crate) fn options(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.arguments.iter().map(|argument| {
            let long = argument.trim_start_matches('-');
            long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)))
        })
    }

    /// The values of one option.
    pub(crate) fn values<'s>(&'s self, wanted: &'s str) -> impl Iterator<Item = &'s str> {
        self.options().filter(move |(name, _)| *name == wanted).filter_map(|(_, value)| value)
    }

    /// Whether an option is given.
    pub(crate) fn has(&self, wanted: &str) -> bool {
        self.options().any(|(name, _)| name == wanted)
    }
}

fn take(
    (selection, notices): &mut (Selection, Vec<Notice>),
    known: &'static Known,
    value: Option<String>,
) -> Result<()> {
    let option = format!("--{}", known.long);
    let text = value.as_deref().unwrap_or_default();
    match known.rule {
        Rule::Pass | Rule::Caution(_) => {
            if known.long == "filter" && text == "-" {
                return Err(refused(known, "a filter comes from a file, not from standard input"));
            }
            if let Rule::Caution(reason) = known.rule {
                notices.push(Notice::Caution { option: option.clone(), reason });
            }
            // The older of two names is known to all versions.
            let name = match known.long {
                "large-objects" => "--blobs",
                "no-large-objects" => "--no-blobs",
                "no-acl" => "--no-privileges",
                _ => &option,
            };
            selection.arguments.push(value.map_or_else(|| name.to_owned(), |value| format!("{name}={value}")));
        }
        Rule::Drop(reason) => notices.push(Notice::LeftOut { option, reason }),
        Rule::Refuse(reason) => return Err(refused(known, reason)),
        Rule::Format => match text {
            "c" | "custom" => {
                notices.push(Notice::LeftOut { option, reason: "the archive is always of the custom format" });
            }
            "d" | "directory" | "t" | "tar" => notices.push(Notice::LeftOut {
                option,
                reason: "the archive is always of the custom format, and is written in parallel all the same",
            }),
            _ => {
                return Err(refused(
                    known,
                    "the archive is always of the custom format; make an SQL script of it with pg_restore --file",
                ));
            }
        },
        Rule::Jobs => {
            let jobs =
                text.parse().ok().filter(|&jobs| jobs > 0).ok_or_else(|| refused(known, "it needs a number from 1"))?;
            notices.push(Notice::Jobs(jobs));
        }
        Rule::Compress => {
            let codec = compression(text)
                .ok_or_else(|| refused(known, "it needs a level from 0 to 9, or gzip, zstd, lz4, none, with :LEVEL"))?;
            notices.push(Notice::Compression(codec));
        }
        Rule::LockWait => {
            let wait = duration(text)
                .ok_or_else(|| refused(known, "it needs milliseconds, or a number with ms, s, min, h, d"))?;
            notices.push(Notice::LockWait(wait));
        }
    }
    Ok(())
}

/// pg_dump's `--compress` in our terms: `9` and `gzip:9` are `gzip:9`, `0` is `none`, `zstd:level=3,long` is `zstd:3`.
fn compression(text: &str) -> Option<String> {
    if let Ok(level) = text.parse::<u32>() {
        return match level {
            0 => Some("none".to_owned()),
            1..=9 => Some(format!("gzip:{level}")),
            _ => None,
        };
    }
    let (method, detail) = text.split_once(':').unwrap_or((text, ""));
    let level = detail.split(',').find_map(|part| part.strip_prefix("level=").unwrap_or(part).parse::<u32>().ok());
    match (method, level) {
        ("none", _) | ("gzip" | "zstd" | "lz4", Some(0)) => Some("none".to_owned()),
        ("lz4", _) => Some("lz4".to_owned()),
        ("gzip" | "zstd", Some(level)) => Some(format!("{method}:{level}")),
        ("gzip" | "zstd", None) => Some(method.to_owned()),
        _ => None,
    }
}

/// A duration as PostgreSQL's settings write it; a bare number is milliseconds.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..end].parse().ok()?;
    let milliseconds = match text[end..].trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(milliseconds)?))
}

fn refused(known: &Known, problem: &str) -> Error {
    Error::DumpOption { option: format!("--{}", known.long), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(Selection, Vec<Notice>)> {
        Selection::parse(text.split_whitespace())
    }

    #[test]
    fn what_leaves_data_out_is_not_the_whole() {
        let is_whole = |arguments: &[&str]| {
            let (selection, _) = Selection::parse(arguments).unwrap();
            Selection::is_whole(&selection.arguments)
        };
        for whole in [&[][..], &["--no-acl"], &["-x", "--no-owner", "--encoding=UTF8", "-b"], &["--no-comments"]] {
            assert!(is_whole(whole), "{whole:?}");
        }
        for part in [
            &["--table=a"][..],
            &["-n", "app"],
            &["--exclude-table-data=log", "-x"],
            &["--no-blobs"],
            &["-s"],
            &["--section=data"],
            &["--enable-row-security"],
            &["--no-unlogged-table-data"],
            &["--no-policies"],
            &["--filter=f"],
        ] {
            assert!(!is_whole(part), "{part:?}");
        }
        assert!(!Selection::is_whole(&["--of-a-later-version".to_owned()]));
    }

    #[test]
    fn the_procedures_options_are_understood() {
        let (selection, notices) = parse("--verbose --format=custom --no-owner --no-acl --jobs=4").unwrap();
        assert_eq!(selection.arguments, ["--no-privileges"]);
        assert_eq!(notices.len(), 4);
        assert!(notices.contains(&Notice::Jobs(4)));
    }

    #[test]
    fn long_short_glued_and_abbreviated() {
        let (selection, _) =
            parse("-t public.a -tb -n s --exclude-table-data audit* --exclude-schema=x --strict --no-unlogged -xB")
                .unwrap();
        assert_eq!(
            selection.arguments,
            [
                "--table=public.a",
                "--table=b",
                "--schema=s",
                "--exclude-table-data=audit*",
                "--exclude-schema=x",
                "--strict-names",
                "--no-unlogged-table-data",
                "--no-privileges",
                "--no-blobs"
            ]
        );
        assert_eq!(selection.values("table").collect::<Vec<_>>(), ["public.a", "b"]);
        assert!(selection.has("no-blobs") && !selection.has("blobs"));
        assert!(Selection::default().is_everything() && !selection.is_everything());
        // An empty value and one that holds a space or an equals sign stay what they are.
        let (selection, _) = Selection::parse(["--table", "\"a b\"=c"]).unwrap();
        assert_eq!(selection.arguments, ["--table=\"a b\"=c"]);
    }

    #[test]
    fn what_is_ours_is_translated() {
        for (text, notice) in [
            ("-j 8", Notice::Jobs(8)),
            ("-Z9", Notice::Compression("gzip:9".to_owned())),
            ("-Z 0", Notice::Compression("none".to_owned())),
            ("--compress=zstd:level=3,long=1", Notice::Compression("zstd:3".to_owned())),
            ("--compress=zstd", Notice::Compression("zstd".to_owned())),
            ("--compress=lz4:5", Notice::Compression("lz4".to_owned())),
            ("--lock-wait-timeout=5000", Notice::LockWait(Duration::from_secs(5))),
            ("--lock-wait-timeout 2min", Notice::LockWait(Duration::from_mins(2))),
        ] {
            assert_eq!(parse(text).unwrap(), (Selection::default(), vec![notice]), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for text in [
            "--inserts",
            "--rows-per-insert=3",
            "-f x",
            "--file=x",
            "-d other",
            "--host=h",
            "-p5433",
            "--role=r",
            "--snapshot=1",
            "--format=plain",
            "-Fp",
            "--binary-upgrade",
            "shop",
            "--",
            "-",
            "--nosuch",
            "--no-",
            "-q",
            "-t",
            "--table",
            "--clean=1",
            "--jobs=0",
            "--jobs=x",
            "-Z 12",
            "--compress=brotli",
            "--lock-wait-timeout=soon",
            "--filter=-",
        ] {
            let error = parse(text).unwrap_err();
            assert!(matches!(error, Error::DumpOption { .. }), "{text}: {error}");
            assert_eq!(error.kind(), crate::ErrorKind::Settings);
        }
        let error = parse("--exclude-tabel=x").unwrap_err().to_string();
        assert_eq!(error, "pg_dump option --exclude-tabel: it is not known");
    }

    #[test]
    fn losses_are_cautioned() {
        let (selection, notices) = parse("--schema-only --enable-row-security").unwrap();
        assert_eq!(selection.arguments.len(), 2);
        assert!(notices.iter().all(|notice| matches!(notice, Notice::Caution { .. })) && notices.len() == 2);
    }

    #[test]
    fn options_newer_than_the_tool_are_refused_by_name() {
        let (selection, _) = parse("--filter=patterns.txt").unwrap();
        assert!(selection.check(17).is_ok());
        assert!(selection.check(15).unwrap_err().to_string().contains("needs pg_dump 17"));
        // A selection that was written by hand is weighed as well.
        for argument in ["--inserts", "--host=h", "-t", "shop"] {
            assert!(Selection { arguments: vec![argument.to_owned()] }.check(18).is_err(), "{argument}");
        }
    }
}
