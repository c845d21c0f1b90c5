//! What a restore needs of server and role; without `--restore` only the privilege to create a database is looked at.

use pgkeep_dump::{Connection, Result, ServerFacts, SessionSettings, quote_identifier, quote_literal};

use super::Scene;
use super::database::Role;
use super::findings::Findings;
use crate::hint::Code;

pub(super) async fn check(
    scene: Scene<'_>,
    findings: &mut Findings,
    mut connection: Connection,
    facts: &ServerFacts,
    role: &Role,
) {
    let wanted = scene.args.restore;
    if wanted {
        findings.group("restore");
    }
    if facts.standby {
        findings.skip("create a database", "this server is a standby: restores go to a primary");
        return;
    }
    let may_create = role.superuser || role.creates_databases;
    if !may_create {
        let message = format!("role {} may not create databases, so it cannot restore beside the live one", role.name);
        let finding = if wanted {
            findings.fail("create a database", message).code(Code::DatabasePermission)
        } else {
            findings.warn("create a database", message)
        };
        finding
            .missing(format!("ALTER ROLE {} CREATEDB", role.quoted()))
            .hint("backups do not need it; a restore without it goes --in-place, or runs as another role");
    } else if !wanted {
        findings.pass("create a database", format!("role {} may; --restore tries it", role.name));
    }
    if !wanted {
        return;
    }
    if may_create && scene.args.dry_run {
        findings.skip("create a database", format!("role {} may; not tried (--dry-run)", role.name));
    } else if may_create {
        try_create(findings, &connection, &facts.identity.database).await;
    }
    if let Err(error) = ask(findings, &mut connection, facts, role).await {
        findings.failed("what a restore needs", error);
    }
    let _ = connection.close().await;
}

/// Creates, renames and drops a database of its own.
async fn try_create(findings: &mut Findings, connection: &Connection, live: &str) {
    let mut session = None;
    let mut refusal = None;
    for database in ["postgres", "template1"].into_iter().filter(|name| *name != live).chain([live]) {
        match Connection::connect(&connection.resolved().with_database(database), SessionSettings::Admin).await {
            Ok(connected) => {
                session = Some((connected, database));
                break;
            }
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    let Some((mut session, database)) = session else {
        if let Some(error) = refusal {
            findings.failed("maintenance session", error);
        }
        return;
    };
    if database == live {
        findings
            .fail(
                "maintenance session",
                "neither postgres nor template1 lets this role in: a database is renamed from beside it",
            )
            .code(Code::DatabasePermission)
            .missing(format!(
                "GRANT CONNECT ON DATABASE postgres TO {}",
                quote_identifier(connection.resolved().user())
            ));
    } else {
        findings.pass("maintenance session", format!("on database {database}"));
    }
    let name = format!("pgkeep_check_{:016x}", rand_suffix());
    let renamed = format!("{name}_renamed");
    let outcome: Result<()> = async {
        session.execute(format!("CREATE DATABASE {}", quote_identifier(&name))).await?;
        session
            .execute(format!("ALTER DATABASE {} RENAME TO {}", quote_identifier(&name), quote_identifier(&renamed)))
            .await?;
        Ok(())
    }
    .await;
    let mut left = Vec::new();
    for made in [&name, &renamed] {
        if session.execute(format!("DROP DATABASE IF EXISTS {}", quote_identifier(made))).await.is_err() {
            left.push(made.clone());
        }
    }
    match outcome {
        Ok(()) => {
            findings.pass("create a database", "created, renamed and dropped one");
        }
        Err(error) => {
            findings.failed("create a database", error);
        }
    }
    if !left.is_empty() {
        findings
            .warn("create a database", format!("{} could not be dropped", left.join(" or ")))
            .hint(format!("DROP DATABASE {}", quote_identifier(&left[0])));
    }
    let _ = session.close().await;
}

/// A number nobody else has.
fn rand_suffix() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

async fn ask(findings: &mut Findings, connection: &mut Connection, facts: &ServerFacts, role: &Role) -> Result<()> {
    let database = &facts.identity.database;
    let row = connection
        .query_one(format!(
            "SELECT pg_catalog.pg_has_role(d.datdba, 'USAGE'), pg_catalog.pg_get_userbyid(d.datdba), \
             pg_catalog.pg_has_role('pg_signal_backend', 'USAGE') FROM pg_catalog.pg_database d WHERE d.datname = {}",
            quote_literal(database)
        ))
        .await?;
    let owner = row.text(1).unwrap_or_default();
    if role.superuser || row.is_true(0) {
        findings.pass("rename the live database", format!("{} owns {database}, or may act as {owner}", role.name));
    } else {
        findings
            .fail("rename the live database", format!("{database} belongs to {owner}"))
            .code(Code::DatabasePermission)
            .missing(format!("ALTER DATABASE {} OWNER TO {}", quote_identifier(database), role.quoted()))
            .hint(format!("or restore as {owner}, or with --in-place or --target-db"));
    }
    if role.superuser || row.is_true(2) {
        findings.pass("end sessions", "of other roles too");
    } else {
        findings
            .warn(
                "end sessions",
                "only those of its own roles: a session of another role on the live database stops the swap",
            )
            .missing(format!("GRANT pg_signal_backend TO {}", role.quoted()));
    }
    extensions(findings, connection, facts, role).await?;
    owners(findings, connection, role).await
}

async fn extensions(
    findings: &mut Findings,
    connection: &mut Connection,
    facts: &ServerFacts,
    role: &Role,
) -> Result<()> {
    if role.superuser {
        return Ok(());
    }
    let rows = connection
        .query(
            "SELECT e.extname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_available_extension_versions v \
             ON v.name = e.extname AND v.version = e.extversion WHERE v.superuser AND NOT v.trusted ORDER BY 1",
        )
        .await?;
    let untrusted: Vec<_> = rows.iter().filter_map(|row| row.text(0)).collect();
    if untrusted.is_empty() {
        findings.pass("extensions", format!("{} installed, all can be created by this role", facts.extensions.len()));
    } else {
        findings
            .warn("extensions", format!("only a superuser creates {}", untrusted.join(", ")))
            .hint("restore as a superuser, or have them created in template1 beforehand");
    }
    Ok(())
}

/// Roles that own something and that this role cannot give anything to.
async fn owners(findings: &mut Findings, connection: &mut Connection, role: &Role) -> Result<()> {
    let membership = if connection.server_version() >= 160_000 { "SET" } else { "MEMBER" };
    let rows = connection
        .query(format!(
            "SELECT DISTINCT o.rolname, o.rolsuper FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_roles o ON o.oid = c.relowner \
             WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' \
             AND NOT pg_catalog.pg_has_role(c.relowner, '{membership}') ORDER BY 1"
        ))
        .await?;
    let strangers: Vec<_> = rows.iter().filter_map(|row| row.text(0)).collect();
    if strangers.is_empty() {
        findings.pass("owners", "this role can give every object back to its owner");
    } else {
        // Nobody should be made a superuser for this.
        let plain = rows.iter().filter(|row| !row.is_true(1)).filter_map(|row| row.text(0));
        let grants: Vec<_> = plain.map(|owner| quote_identifier(&owner)).collect();
        let finding = findings.warn("owners", format!("this role cannot give objects to {}", strangers.join(", ")));
        if grants.is_empty() {
            finding.hint("restore as that role, or with --no-owner");
        } else {
            finding
                .missing(format!("GRANT {} TO {}", grants.join(", "), role.quoted()))
                .hint("or restore with --no-owner");
        }
    }
    Ok(())
}
