//! What this role cannot read, or would lose without a word (P-A17), asked of the server's own privilege functions
//! before the first byte is dumped.

use std::fmt;

use crate::facts::{truth, use_utf8};
use crate::patterns::{dumped, union};
use crate::{Connection, Error, Result, Row, Selection, quote_identifier};

/// How many objects of one kind are named one by one.
const NAMED: usize = 20;

/// One thing that stands in the way of a whole backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong with which object.
    pub problem: String,
    /// The statement that mends it, where there is one.
    pub remedy: Option<String>,
}

/// `problem; run: remedy`
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; run: {remedy}"),
            None => Ok(()),
        }
    }
}

/// What was found before a dump.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preflight {
    /// What `pg_dump` will fail at.
    pub blockers: Vec<Finding>,
    /// What will be missing from the backup although the dump succeeds.
    pub losses: Vec<Finding>,
}

impl Preflight {
    /// Everything in one list of lines, what blocks first.
    pub fn lines(&self) -> Vec<String> {
        let blockers = self.blockers.iter().map(|finding| format!("cannot be dumped: {finding}"));
        let losses = self.losses.iter().map(|finding| format!("will not be in the backup: {finding}"));
        blockers.chain(losses).collect()
    }
}

/// How large objects are going to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LargeObjectReading {
    /// As `pg_dump` reads them: the role needs a right to each.
    OneByOne,
    /// As [`crate::ParallelEngine`] does where it may: as pages of `pg_largeobject`, which `pg_read_all_data` covers.
    ByPages,
}

/// Finds out what of `selection` the session's role cannot read.
///
/// Nothing is guessed: each line comes from a privilege function or a catalog. `pg_dump`'s own locks and reads remain
/// the final word. With `--filter` the relations are left to them altogether.
pub async fn preflight(
    connection: &mut Connection,
    selection: &Selection,
    reading: LargeObjectReading,
) -> Result<Preflight> {
    use_utf8(connection).await?;
    let mut found = Preflight::default();
    let role = Role::read(connection).await?;
    if !role.superuser {
        if !selection.has("filter") {
            relations(connection, selection, &role, &mut found).await?;
        }
        if with_large_objects(selection) {
            large_objects(connection, &role, reading, &mut found).await?;
        }
        if with_schema(selection) {
            user_mappings(connection, &mut found).await?;
            subscriptions(connection, selection, &role, &mut found).await?;
        }
    }
    if with_rows(selection) {
        unlogged_on_standby(connection, selection, &mut found).await?;
        prepared_transactions(connection, &mut found).await?;
    }
    Ok(found)
}

fn with_rows(selection: &Selection) -> bool {
    !["schema-only", "no-data", "statistics-only"].iter().any(|option| selection.has(option))
}

fn with_schema(selection: &Selection) -> bool {
    !["data-only", "no-schema", "statistics-only", "table", "table-and-children"]
        .iter()
        .any(|option| selection.has(option))
}

/// As pg_dump decides: by default with everything, with parts of the database only when asked for.
fn with_large_objects(selection: &Selection) -> bool {
    let partial = ["table", "table-and-children", "schema", "extension"].iter().any(|option| selection.has(option));
    with_rows(selection) && !selection.has("no-blobs") && (!partial || selection.has("blobs"))
}

/// Who asks.
#[derive(Debug)]
struct Role {
    /// Quoted.
    name: String,
    superuser: bool,
    version: u32,
}

impl Role {
    async fn read(connection: &mut Connection) -> Result<Self> {
        let rows = connection
            .query("SELECT current_user, rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user")
            .await?;
        let row = rows.first().ok_or(Error::Statement { problem: "the session's role does not exist" })?;
        Ok(Self {
            name: quote_identifier(&row.text(0).unwrap_or_default()),
            superuser: truth(row, 1),
            version: connection.server_version(),
        })
    }

    /// The grant that covers everything at once, where the server has it.
    fn read_all(&self) -> String {
        if self.version >= 140_000 {
            format!("GRANT pg_read_all_data TO {}", self.name)
        } else {
            format!("GRANT SELECT ON ALL TABLES IN SCHEMA … TO {}", self.name)
        }
    }
}

/// Tables and sequences that pg_dump will lock or read: privileges, and row-level security.
async fn relations(
    connection: &mut Connection,
    selection: &Selection,
    role: &Role,
    found: &mut Preflight,
) -> Result<()> {
    let rows_wanted = with_rows(selection) && !selection.has("enable-row-security");
    // Only rows that are copied meet row-level security; a partitioned table has none of its own.
    let secured = if rows_wanted {
        let excluded = union(selection, &["exclude-table-data"], &["exclude-table-data-and-children"]);
        let excluded = excluded.map_or_else(String::new, |tables| format!(" AND c.oid NOT IN ({tables})"));
        format!("(c.relkind = 'r' AND c.relrowsecurity AND pg_catalog.row_security_active(c.oid){excluded})")
    } else {
        "false".to_owned()
    };
    let sql = format!(
        "SELECT n.nspname, c.relname, c.relkind, pg_catalog.has_schema_privilege(n.oid, 'USAGE'), \
         pg_catalog.has_table_privilege(c.oid, 'SELECT'), {secured} \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'S') AND {} \
         AND NOT (pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT') AND NOT {secured}) \
         ORDER BY 1, 2",
        dumped(selection)
    );
    let rows = with_original_search_path(connection, selection, sql).await?;
    let name = |row: &Row| {
        let part = |column: usize| quote_identifier(&row.text(column).unwrap_or_default());
        format!("{}.{}", part(0), part(1))
    };

    let mut schemas: Vec<String> = Vec::new();
    let mut unreadable = Vec::new();
    let mut hidden = Vec::new();
    for row in &rows {
        let schema = quote_identifier(&row.text(0).unwrap_or_default());
        if !truth(row, 3) && !schemas.contains(&schema) {
            schemas.push(schema);
        }
        if !truth(row, 4) {
            let (kind, noun) =
                if row.text(2).as_deref() == Some("S") { ("SEQUENCE", "sequence") } else { ("TABLE", "table") };
            unreadable.push(Finding {
                problem: format!("{noun} {}: role {} may not read it", name(row), role.name),
                remedy: Some(format!("GRANT SELECT ON {kind} {} TO {}", name(row), role.name)),
            });
        }
        if truth(row, 5) {
            hidden.push(Finding {
                problem: format!("table {}: row-level security hides rows from role {}", name(row), role.name),
                remedy: Some(format!("ALTER ROLE {} BYPASSRLS", role.name)),
            });
        }
    }
    let schemas = schemas
        .into_iter()
        .map(|schema| Finding {
            problem: format!("schema {schema}: role {} may not use it", role.name),
            remedy: Some(format!("GRANT USAGE ON SCHEMA {schema} TO {}", role.name)),
        })
        .collect();
    push_some(&mut found.blockers, schemas, "schemas that the role may not use", Some(&role.read_all()));
    push_some(
        &mut found.blockers,
        unreadable,
        "tables and sequences that the role may not read",
        Some(&role.read_all()),
    );
    push_some(
        &mut found.blockers,
        hidden,
        "tables whose rows row-level security hides",
        Some(&format!("ALTER ROLE {} BYPASSRLS", role.name)),
    );
    Ok(())
}

/// Names the first ones, counts the others.
fn push_some(into: &mut Vec<Finding>, mut findings: Vec<Finding>, kind: &str, for_all: Option<&str>) {
    let more = findings.len().saturating_sub(NAMED);
    findings.truncate(NAMED);
    into.append(&mut findings);
    if more > 0 {
        into.push(Finding { problem: format!("{more} more {kind}"), remedy: for_all.map(str::to_owned) });
    }
}

/// Large objects that the role may not read; `pg_read_all_data` covers their pages only.
async fn large_objects(
    connection: &mut Connection,
    role: &Role,
    reading: LargeObjectReading,
    found: &mut Preflight,
) -> Result<()> {
    if reading == LargeObjectReading::ByPages {
        let sql = "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_largeobject', 'SELECT')";
        if connection.query(sql).await?.first().is_some_and(|row| truth(row, 0)) {
            return Ok(());
        }
    }
    let readable = if role.version >= 180_000 {
        "pg_catalog.has_largeobject_privilege(m.oid, 'SELECT')"
    } else {
        "(pg_catalog.pg_has_role(m.lomowner, 'USAGE') OR EXISTS (SELECT FROM pg_catalog.aclexplode(m.lomacl) a \
          WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE'))))"
    };
    let rows = connection
        .query(format!(
            "SELECT pg_catalog.count(*), pg_catalog.min(m.oid), pg_catalog.current_setting('lo_compat_privileges') \
             FROM pg_catalog.pg_largeobject_metadata m WHERE NOT {readable}"
        ))
        .await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let count: u64 = row.get(0)?;
    if count == 0 || row.text(2).as_deref() == Some("on") {
        return Ok(());
    }
    let first = row.text(1).unwrap_or_default();
    found.blockers.push(Finding {
        problem: format!(
            "{count} large objects, the first with OID {first}: role {} may not read them (ALTER ROLE {} SET lo_compat_privileges = on \
             lets it read all of them, and write them)",
            role.name, role.name
        ),
        remedy: Some(format!("GRANT SELECT ON LARGE OBJECT {first} TO {}", role.name)),
    });
    Ok(())
}

/// User mappings whose options pg_dump cannot see and drops without a word.
async fn user_mappings(connection: &mut Connection, found: &mut Preflight) -> Result<()> {
    let rows =
        connection.query("SELECT pg_catalog.has_table_privilege('pg_catalog.pg_user_mapping', 'SELECT')").await?;
    let readable = rows.first().is_some_and(|row| truth(row, 0));
    // With the catalog itself we know which have options; without, the view's own rule says whose we may not see.
    let sql = if readable {
        "SELECT v.usename, v.srvname FROM pg_catalog.pg_user_mappings v JOIN pg_catalog.pg_user_mapping m ON m.oid = v.umid \
         WHERE m.umoptions IS NOT NULL AND v.umoptions IS NULL ORDER BY 2, 1"
    } else {
        "SELECT v.usename, v.srvname FROM pg_catalog.pg_user_mappings v JOIN pg_catalog.pg_foreign_server s ON s.oid = v.srvid \
         WHERE v.umoptions IS NULL AND NOT CASE WHEN v.umuser = 0 THEN pg_catalog.pg_has_role(s.srvowner, 'USAGE') \
         ELSE v.usename = current_user AND (pg_catalog.pg_has_role(s.srvowner, 'USAGE') \
         OR pg_catalog.has_server_privilege(s.oid, 'USAGE')) END ORDER BY 2, 1"
    };
    let may = if readable { "" } else { ", if it has any," };
    let mappings = connection
        .query(sql)
        .await?
        .iter()
        .map(|row| Finding {
            problem: format!(
                "options (passwords) of the user mapping for {} on server {}{may}: only a superuser's dump holds them",
                row.text(0).unwrap_or_default(),
                quote_identifier(&row.text(1).unwrap_or_default())
            ),
            remedy: None,
        })
        .collect();
    push_some(&mut found.losses, mappings, "user mappings whose options only a superuser's dump holds", None);
    Ok(())
}

/// Subscriptions, which pg_dump leaves out for everybody but superusers.
async fn subscriptions(
    connection: &mut Connection,
    selection: &Selection,
    role: &Role,
    found: &mut Preflight,
) -> Result<()> {
    if role.version < 130_000 || selection.has("no-subscriptions") || selection.has("schema") {
        return Ok(());
    }
    let rows = connection
        .query(
            "SELECT s.subname FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid \
             WHERE d.datname = pg_catalog.current_database() ORDER BY 1",
        )
        .await?;
    found.losses.extend(rows.iter().map(|row| Finding {
        problem: format!(
            "subscription {}: pg_dump leaves subscriptions out unless a superuser runs it",
            quote_identifier(&row.text(0).unwrap_or_default())
        ),
        remedy: None,
    }));
    Ok(())
}

/// Unlogged tables have no rows on a standby.
async fn unlogged_on_standby(connection: &mut Connection, selection: &Selection, found: &mut Preflight) -> Result<()> {
    let rows = connection.query("SELECT pg_catalog.pg_is_in_recovery()").await?;
    if !rows.first().is_some_and(|row| truth(row, 0))
        || selection.has("filter")
        || selection.has("no-unlogged-table-data")
    {
        return Ok(());
    }
    let sql = format!(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'r' AND c.relpersistence = 'u' AND {} ORDER BY 1, 2",
        dumped(selection)
    );
    let rows = with_original_search_path(connection, selection, sql).await?;
    let tables = rows
        .iter()
        .map(|row| Finding {
            problem: format!(
                "rows of the unlogged table {}.{}: a standby has none of them",
                quote_identifier(&row.text(0).unwrap_or_default()),
                quote_identifier(&row.text(1).unwrap_or_default())
            ),
            remedy: None,
        })
        .collect();
    push_some(&mut found.losses, tables, "unlogged tables", None);
    Ok(())
}

/// Prepared transactions are no part of a logical dump.
async fn prepared_transactions(connection: &mut Connection, found: &mut Preflight) -> Result<()> {
    let rows = connection
        .query("SELECT pg_catalog.count(*) FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database()")
        .await?;
    let count: u64 = rows.first().map_or(Ok(0), |row| row.get(0))?;
    if count > 0 {
        found.losses.push(Finding {
            problem: format!(
                "{count} prepared transactions that are neither committed nor rolled back (see pg_prepared_xacts)"
            ),
            remedy: None,
        });
    }
    Ok(())
}

/// Runs a query as pg_dump resolves its patterns: a name without schema means what is visible with the search path that
/// the role starts with. Everything in our queries is qualified.
async fn with_original_search_path(
    connection: &mut Connection,
    selection: &Selection,
    sql: String,
) -> Result<Vec<Row>> {
    if selection.is_everything() {
        return connection.query(sql).await;
    }
    connection.execute("RESET search_path").await?;
    let rows = connection.query(sql).await;
    connection.execute("SELECT pg_catalog.set_config('search_path', '', false)").await?;
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_database_are_weighed_as_pg_dump_takes_them() {
        let selection = |text: &str| Selection::parse(text.split_whitespace()).unwrap().0;
        assert!(with_large_objects(&selection("")) && with_schema(&selection("")));
        assert!(!with_large_objects(&selection("-t a")) && !with_schema(&selection("-t a")));
        assert!(with_large_objects(&selection("-n a -b")) && !with_large_objects(&selection("-s")));
        assert!(dumped(&selection("-n a -N b")).contains("'^(a)$'"));
        assert!(!dumped(&selection("-n a -N b")).contains("'^(b)$'"));
        assert!(dumped(&selection("-N b")).contains("NOT (n.nspname"));
        assert!(dumped(&selection("--table-and-children=p")).contains("RECURSIVE"));
    }

    #[test]
    fn findings_are_one_line_each_and_bounded() {
        let mut found = Vec::new();
        let many = (0..25).map(|n| Finding { problem: format!("table t{n}"), remedy: None }).collect();
        push_some(&mut found, many, "tables", Some("GRANT everything"));
        assert_eq!(found.len(), NAMED + 1);
        assert_eq!(found[NAMED].to_string(), "5 more tables; run: GRANT everything");
        let preflight = Preflight { blockers: found[..1].to_vec(), losses: found[NAMED..].to_vec() };
        assert_eq!(
            preflight.lines(),
            ["cannot be dumped: table t0", "will not be in the backup: 5 more tables; run: GRANT everything"]
        );
    }
}
