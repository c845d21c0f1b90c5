//! The databases that are backed up: each is the hard case of something.

use crate::Outcome;
use crate::site::Site;

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Database {
    /// The sample of a business: something of everything.
    Balanced,
    /// One table has 95 % of the bytes.
    OneTable,
    /// Thousands of small tables.
    SmallTables,
    /// Wide documents.
    Jsonb,
    /// Media as bytea.
    Toast,
    /// Media as large objects.
    LargeObjects,
}

impl Database {
    /// All of them, in the order in which they are told of.
    pub(crate) const ALL: [Self; 6] =
        [Self::Balanced, Self::OneTable, Self::SmallTables, Self::Jsonb, Self::Toast, Self::LargeObjects];

    /// The name on the command line and in the document.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::OneTable => "one-table",
            Self::SmallTables => "small-tables",
            Self::Jsonb => "jsonb",
            Self::Toast => "toast",
            Self::LargeObjects => "large-objects",
        }
    }

    /// The database of this name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|database| database.name() == name)
    }

    /// What is in it, as a sentence.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Balanced => {
                "A generated SaaS: messages with jsonb, bookings in partitions, customers, incompressible media as bytea, \
                 large objects."
            }
            Self::OneTable => {
                "One table of events, with narrow rows of numbers, text and a little jsonb, has 95 % of the bytes."
            }
            Self::SmallTables => {
                "Thousands of tables of the same shape, with a key, an index and 40 to 9000 rows each."
            }
            Self::Jsonb => "Orders as jsonb documents of 1 to 10 kB, which compress well.",
            Self::Toast => "Pictures and films as bytea out of line, from 8 KiB to 2 MiB, which do not compress.",
            Self::LargeObjects => "Scans as large objects, from 4 to 256 KiB, which do not compress.",
        }
    }

    /// A small table of it, as `schema.name`.
    pub(crate) fn small_table(self) -> &'static str {
        match self {
            Self::Balanced => "app.salons",
            Self::OneTable => "app.plans",
            Self::SmallTables => "app.tenant_00004",
            Self::Jsonb => "app.shops",
            Self::Toast => "app.albums",
            Self::LargeObjects => "app.folders",
        }
    }

    /// The script that fills an empty database, for `psql -v scale=1`.
    fn sql(self) -> &'static str {
        match self {
            Self::Balanced => pgkeep_testkit::saas::SQL,
            Self::OneTable => include_str!("../../../sql/one-table.sql"),
            Self::SmallTables => include_str!("../../../sql/small-tables.sql"),
            Self::Jsonb => include_str!("../../../sql/jsonb.sql"),
            Self::Toast => include_str!("../../../sql/toast.sql"),
            Self::LargeObjects => include_str!("../../../sql/large-objects.sql"),
        }
    }

    /// Makes the site's source database anew; its size in bytes.
    pub(crate) fn fill(self, site: &Site, scale: f64) -> Outcome<u64> {
        let server = &site.server;
        server.psql("postgres", "DROP DATABASE IF EXISTS app WITH (FORCE)");
        server.psql("postgres", "CREATE DATABASE app");
        server.psql_with("app", self.sql(), &["-v", &format!("scale={scale}"), "-o", "/dev/null"])?;
        // Hint bits and the like are written by whoever comes first; that must be none of the contenders.
        server.psql("app", "VACUUM ANALYZE");
        server.psql("app", "CHECKPOINT");
        Ok(server.psql("app", "SELECT pg_database_size('app')").parse()?)
    }
}
