//! The rest of the proof: large objects, sequences, indexes, extensions and the schema.

use std::collections::HashMap;

use pgkeep_archive::sequence_set;
use pgkeep_dump::{ClientTools, Connection, Selection, schema_toc};

use crate::error::Doing;
use crate::proof::Prover;
use crate::schema_proof::{self, Rules};
use crate::sessions::qualified;
use crate::survey::truth;
use crate::{Difference, Error, ProofReport, Result, large_objects};

/// Sequences asked for in one statement.
const SEQUENCES: usize = 200;

impl Prover<'_> {
    pub(crate) async fn large_objects(&self, report: &mut ProofReport) -> Result<()> {
        let Some(expected) = self.loaded.large_objects else { return Ok(()) };
        match large_objects::tally(&self.settings, self.jobs, self.loaded.key).await {
            Ok(found) => {
                report.large_objects = found.rows;
                if found != expected {
                    report.differences.push(Difference {
                        subject: "large objects".to_owned(),
                        problem: format!(
                            "{} ({} bytes, fingerprint {}) were there, {} ({} bytes, {}) came back",
                            expected.rows,
                            expected.bytes,
                            expected.fingerprint(),
                            found.rows,
                            found.bytes,
                            found.fingerprint()
                        ),
                    });
                }
                Ok(())
            }
            Err(Error::Database { source, .. }) if source.server_error().is_some_and(|error| !error.is_fatal()) => {
                report.unprovable.push(format!("large objects cannot be read: {source}"));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn sequences(&self, connection: &mut Connection, report: &mut ProofReport) -> Result<()> {
        let listed = self.lists.after.iter().chain(&self.lists.before).filter_map(|&id| self.toc.entry(id));
        let expected: Vec<_> = listed.filter_map(sequence_set).collect();
        for batch in expected.chunks(SEQUENCES) {
            let select = |at: usize| {
                let sequence = &batch[at];
                let mut sql = format!("SELECT {at}, last_value, is_called FROM ").into_bytes();
                sql.extend(qualified(Some(&sequence.schema), &sequence.name));
                sql
            };
            let all: Vec<_> = (0..batch.len()).map(select).collect();
            // One that cannot be read must not hide the others.
            let all_at_once = connection.query(all.join(b" UNION ALL ".as_slice())).await;
            let mut statements = vec![all_at_once];
            if statements[0].is_err() {
                for sql in &all {
                    statements.push(connection.query(sql).await);
                }
            }
            let mut unread: Vec<bool> = vec![true; batch.len()];
            for rows in statements {
                for row in rows.unwrap_or_default() {
                    let at: usize = row.get(0).doing("reading sequences")?;
                    let Some(sequence) = batch.get(at) else { continue };
                    unread[at] = false;
                    report.sequences += 1;
                    let last: i64 = row.get(1).doing("reading sequences")?;
                    let called = truth(&row, 2);
                    if (last, called) != (sequence.last_value, sequence.is_called) {
                        report.differences.push(Difference {
                            subject: format!("sequence {}.{}", sequence.schema.lossy(), sequence.name.lossy()),
                            problem: format!("stood at {}, stands at {last}", sequence.last_value),
                        });
                    }
                }
            }
            for (sequence, _) in batch.iter().zip(unread).filter(|(_, unread)| *unread) {
                report.unprovable.push(format!(
                    "sequence {}.{} cannot be read",
                    sequence.schema.lossy(),
                    sequence.name.lossy()
                ));
            }
        }
        Ok(())
    }

    pub(crate) async fn indexes(&self, connection: &mut Connection, report: &mut ProofReport) -> Result<()> {
        let rows = connection
            .query(
                "SELECT n.nspname, c.relname, c.relkind FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE NOT i.indisvalid ORDER BY 1, 2",
            )
            .await
            .doing("looking for invalid indexes")?;
        for row in &rows {
            let subject = format!("index {}.{}", row.text(0).unwrap_or_default(), row.text(1).unwrap_or_default());
            // A partitioned index is invalid until every partition has its part, in the source as here.
            if row.text(2).as_deref() == Some("I") {
                report
                    .renderings
                    .push(Difference { subject, problem: "is invalid until every partition has it".to_owned() });
            } else {
                report.differences.push(Difference { subject, problem: "is invalid".to_owned() });
            }
        }
        Ok(())
    }

    pub(crate) async fn extensions(&self, connection: &mut Connection, report: &mut ProofReport) -> Result<()> {
        let Some(meta) = self.source.meta.as_deref() else { return Ok(()) };
        let rows = connection
            .query("SELECT extname, extversion FROM pg_catalog.pg_extension")
            .await
            .doing("reading the extensions")?;
        let found: HashMap<String, String> =
            rows.iter().map(|row| (row.text(0).unwrap_or_default(), row.text(1).unwrap_or_default())).collect();
        for (name, version) in &meta.extensions {
            if let Some(now) = found.get(name)
                && now != version
            {
                report.renderings.push(Difference {
                    subject: format!("extension {name}"),
                    problem: format!("was {version}, is {now}"),
                });
            }
        }
        Ok(())
    }

    pub(crate) async fn schema(&self, report: &mut ProofReport) -> Result<()> {
        let writer =
            self.toc.dump_version.split(['.', ' ', 'b', 'r']).next().and_then(|major| major.parse::<u32>().ok());
        let same = self.tools.iter().find(|tools| Some(tools.major) == writer && tools.major >= self.server_major);
        let tools = match same {
            Some(tools) => tools,
            None => match ClientTools::choose(self.tools, self.server_major) {
                Ok(tools) => tools,
                Err(error) => {
                    report.unprovable.push(format!("the schema was not compared: {error}"));
                    return Ok(());
                }
            },
        };
        let restored = match schema_toc(&self.settings.connect, tools, &Selection::default(), self.cancel.clone()).await
        {
            Ok(toc) => toc,
            // What the role may not dump (another's table) it cannot compare.
            Err(pgkeep_dump::Error::Child(error)) => {
                report.unprovable.push(format!("the schema was not compared: {error}"));
                return Ok(());
            }
            Err(error) => return Err(error).doing("reading the schema for the proof"),
        };
        let rules = Rules {
            same_writer: same.is_some(),
            owners: self.owners,
            grants: self.grants,
            whole: self.source.meta.as_ref().is_none_or(|meta| meta.selection.is_empty()),
        };
        let findings = schema_proof::compare(self.toc, &restored, rules);
        report.schema_items = findings.items;
        report.differences.extend(findings.differences);
        report.renderings.extend(findings.renderings);
        if same.is_none() {
            report.unprovable.push(format!(
                "the schema was compared by names only: the backup was written by pg_dump {}, and {} is installed",
                self.toc.dump_version, tools.version
            ));
        }
        Ok(())
    }
}
