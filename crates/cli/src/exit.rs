//! Exit codes: one table, documented in docs/TROUBLESHOOTING.md and tested against it.

use serde::Serialize;

/// How a run ends, as its caller sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[repr(u8)]
pub(crate) enum Exit {
    /// All done, perhaps with warnings.
    Ok = 0,
    /// Something nobody foresaw, or a run past its time limit.
    Unexpected = 1,
    /// Arguments or settings are wrong.
    Usage = 2,
    /// Nothing matched.
    NothingMatched = 3,
    /// A backup is damaged, or a proof failed.
    Damage = 4,
    /// The database is unreachable or refused.
    Database = 5,
    /// A store is unreachable or refused.
    Store = 6,
    /// Another run holds the lock.
    Locked = 7,
    /// Warnings, under `--strict`.
    Warnings = 8,
    /// Somebody said no.
    Declined = 9,
    /// `status`: overdue or unproven.
    Overdue = 10,
    /// SIGINT.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

impl Exit {
    /// Every exit code with its meaning, in order.
    pub(crate) const TABLE: [(Self, &str); 13] = [
        (Self::Ok, "ok, also with warnings (`\"outcome\": \"warnings\"`)"),
        (Self::Unexpected, "unexpected, or past the time limit"),
        (Self::Usage, "usage or settings"),
        (Self::NothingMatched, "nothing matched"),
        (Self::Damage, "damage found, or a proof failed"),
        (Self::Database, "database unreachable or refused"),
        (Self::Store, "store unreachable or refused"),
        (Self::Locked, "locked by another run"),
        (Self::Warnings, "warnings, under `--strict`"),
        (Self::Declined, "declined"),
        (Self::Overdue, "`status`: overdue or unproven"),
        (Self::Interrupted, "interrupted (SIGINT)"),
        (Self::Terminated, "terminated (SIGTERM)"),
    ];

    /// The table as a paragraph of the help.
    pub(crate) fn help() -> String {
        let codes: Vec<_> = Self::TABLE
            .iter()
            .map(|(exit, meaning)| format!("  {:>3}  {}", exit.code(), meaning.replace('`', "")))
            .collect();
        format!("Exit codes:\n{}", codes.join("\n"))
    }

    /// The number.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract() {
        let codes: Vec<u8> = Exit::TABLE.iter().map(|(exit, _)| exit.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 130, 143]);
    }
}
