//! Creating and dropping the database that is being filled.

use pgkeep_core::DatabaseMeta;
use pgkeep_dump::{Connection, ServerFacts, quote_identifier, quote_literal};

use crate::Result;
use crate::error::Doing;
use crate::plan::RestorePlan;

/// What a database is created with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Properties {
    pub(crate) encoding: Option<String>,
    /// `libc`, `icu`, `builtin`.
    pub(crate) provider: Option<String>,
    pub(crate) collate: Option<String>,
    pub(crate) ctype: Option<String>,
    /// ICU or builtin locale.
    pub(crate) locale: Option<String>,
    pub(crate) icu_rules: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) tablespace: Option<String>,
}

impl From<&DatabaseMeta> for Properties {
    fn from(meta: &DatabaseMeta) -> Self {
        Self {
            encoding: Some(meta.encoding.clone()),
            provider: Some(meta.locale_provider.clone()),
            collate: Some(meta.collate.clone()),
            ctype: Some(meta.ctype.clone()),
            locale: meta.locale.clone(),
            icu_rules: meta.icu_rules.clone(),
            owner: Some(meta.owner.clone()),
            tablespace: Some(meta.tablespace.clone()),
        }
    }
}

impl From<&ServerFacts> for Properties {
    fn from(facts: &ServerFacts) -> Self {
        Self {
            encoding: Some(facts.encoding.clone()),
            provider: Some(facts.locale_provider.clone()),
            collate: Some(facts.collate.clone()),
            ctype: Some(facts.ctype.clone()),
            locale: facts.locale.clone(),
            icu_rules: facts.icu_rules.clone(),
            owner: Some(facts.owner.clone()),
            tablespace: Some(facts.tablespace.clone()),
        }
    }
}

impl Properties {
    /// From the `CREATE DATABASE` that an archive's DATABASE entry holds.
    pub(crate) fn from_definition(sql: &str) -> Self {
        let value = |option: &str| {
            let (_, rest) = sql.split_once(&format!(" {option} = "))?;
            match rest.strip_prefix('\'') {
                Some(literal) => literal.split_once('\'').map(|(value, _)| value.to_owned()),
                None => rest.split([' ', ';', '\n']).next().map(str::to_owned),
            }
        };
        let both = value("LOCALE");
        Self {
            encoding: value("ENCODING"),
            provider: value("LOCALE_PROVIDER"),
            collate: value("LC_COLLATE").or_else(|| both.clone()),
            ctype: value("LC_CTYPE").or(both),
            locale: value("ICU_LOCALE").or_else(|| value("BUILTIN_LOCALE")),
            icu_rules: value("ICU_RULES"),
            owner: None,
            tablespace: None,
        }
    }

    /// Of the new database of a plan: encoding and locale as the backup's database had them (else as the present one has),
    /// owner and tablespace as the present one has (else as the backup's had), as far as this server knows them.
    pub(crate) fn of(plan: &RestorePlan) -> Self {
        let present = plan.facts.database.as_ref().and_then(|database| database.facts.as_deref()).map(Self::from);
        let meta = plan.request.source.meta.as_deref().map(|meta| Self::from(&meta.database));
        let entry = plan.toc.entries.iter().find(|entry| entry.desc == "DATABASE");
        let archive = entry.map(|entry| Self::from_definition(&entry.definition.lossy()));
        let mut properties = meta.clone().or_else(|| present.clone()).or(archive).unwrap_or_default();
        let kept = present.or(meta).unwrap_or_default();
        let no_owner = plan.request.no_owner;
        properties.owner = kept.owner.filter(|owner| {
            let known = plan.facts.roles.contains(owner) || plan.created_roles.contains(owner);
            known && !no_owner && (plan.facts.role.superuser || plan.facts.member_of.contains(owner))
        });
        properties.tablespace =
            kept.tablespace.filter(|space| space != "pg_default" && plan.facts.tablespaces.contains(space));
        properties
    }

    /// `CREATE DATABASE` for a server of this version.
    pub(crate) fn create_statement(&self, name: &str, version_num: u32) -> String {
        let mut sql = format!("CREATE DATABASE {} WITH TEMPLATE = template0", quote_identifier(name));
        let mut option = |name: &str, value: String| {
            sql.push(' ');
            sql.push_str(name);
            sql.push_str(" = ");
            sql.push_str(&value);
        };
        if let Some(owner) = &self.owner {
            option("OWNER", quote_identifier(owner));
        }
        if let Some(encoding) = &self.encoding {
            option("ENCODING", quote_literal(encoding));
        }
        let provider = self.provider.as_deref().filter(|_| version_num >= 150_000);
        if let Some(provider) = provider {
            option("LOCALE_PROVIDER", provider.to_owned());
        }
        if let Some(collate) = &self.collate {
            option("LC_COLLATE", quote_literal(collate));
        }
        if let Some(ctype) = &self.ctype {
            option("LC_CTYPE", quote_literal(ctype));
        }
        match (provider, &self.locale) {
            (Some("icu"), Some(locale)) => option("ICU_LOCALE", quote_literal(locale)),
            (Some("builtin"), Some(locale)) => option("BUILTIN_LOCALE", quote_literal(locale)),
            _ => {}
        }
        if let (Some("icu"), Some(rules)) = (provider, &self.icu_rules)
            && version_num >= 160_000
        {
            option("ICU_RULES", quote_literal(rules));
        }
        if let Some(tablespace) = &self.tablespace {
            option("TABLESPACE", quote_identifier(tablespace));
        }
        sql
    }
}

/// Creates the database, closed to everybody but its owner from the first moment on. Returns its OID.
pub(crate) async fn create(
    connection: &mut Connection,
    name: &str,
    properties: &Properties,
    comment: &str,
) -> Result<u32> {
    let doing = || format!("creating database {name}");
    let version = connection.server_version();
    connection.execute(properties.create_statement(name, version)).await.doing(doing())?;
    let quoted = quote_identifier(name);
    connection
        .execute(format!(
            "REVOKE CONNECT, TEMPORARY ON DATABASE {quoted} FROM PUBLIC; COMMENT ON DATABASE {quoted} IS {}",
            quote_literal(comment)
        ))
        .await
        .doing(doing())?;
    oid(connection, name)
        .await
        .doing(doing())?
        .ok_or_else(|| crate::Error::Changed(format!("database {name} vanished as soon as it was created")))
}

/// Drops it, whoever is connected.
pub(crate) async fn drop_database(connection: &mut Connection, name: &str) -> Result<(), pgkeep_dump::Error> {
    connection.execute(format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote_identifier(name))).await.map(|_| ())
}

/// A database's OID, if there is one of that name.
pub(crate) async fn oid(connection: &mut Connection, name: &str) -> Result<Option<u32>, pgkeep_dump::Error> {
    let rows = connection
        .query(format!("SELECT oid FROM pg_catalog.pg_database WHERE datname = {}", quote_literal(name)))
        .await?;
    rows.first().map(|row| row.get(0)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_created_as_it_was() {
        let icu = Properties {
            encoding: Some("UTF8".into()),
            provider: Some("icu".into()),
            collate: Some("C.UTF-8".into()),
            ctype: Some("C.UTF-8".into()),
            locale: Some("de-u-co-phonebk".into()),
            icu_rules: Some("&a < 'b'".into()),
            owner: Some("App Owner".into()),
            tablespace: Some("fast".into()),
        };
        assert_eq!(
            icu.create_statement("new", 160_000),
            "CREATE DATABASE \"new\" WITH TEMPLATE = template0 OWNER = \"App Owner\" ENCODING = 'UTF8' LOCALE_PROVIDER = icu \
             LC_COLLATE = 'C.UTF-8' LC_CTYPE = 'C.UTF-8' ICU_LOCALE = 'de-u-co-phonebk' ICU_RULES = '&a < ''b''' TABLESPACE = \"fast\""
        );
        assert!(!icu.create_statement("new", 150_000).contains("ICU_RULES"));
        assert!(!icu.create_statement("new", 140_000).contains("LOCALE_PROVIDER"));
    }

    #[test]
    fn archives_say_how_their_database_was_created() {
        let parsed = Properties::from_definition(
            "CREATE DATABASE app WITH TEMPLATE = template0 ENCODING = 'LATIN1' LOCALE_PROVIDER = libc LOCALE = 'de_DE';\n",
        );
        assert_eq!(parsed.encoding.as_deref(), Some("LATIN1"));
        assert_eq!(parsed.provider.as_deref(), Some("libc"));
        assert_eq!((parsed.collate.as_deref(), parsed.ctype.as_deref()), (Some("de_DE"), Some("de_DE")));
        let parsed = Properties::from_definition(
            "CREATE DATABASE a WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = builtin LC_COLLATE = 'C' LC_CTYPE = 'C' BUILTIN_LOCALE = 'C.UTF-8';",
        );
        assert_eq!(parsed.locale.as_deref(), Some("C.UTF-8"));
        assert_eq!(parsed.collate.as_deref(), Some("C"));
    }
}
