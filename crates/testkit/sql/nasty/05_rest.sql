-- Views: nested, with options, replaced by a rule, recursive, updatable; materialized, also unfilled and upon each other.
CREATE VIEW nasty.plain AS SELECT id, upper(note) AS note FROM nasty.awkward_text WHERE id < 10010;
CREATE VIEW nasty.nested WITH (security_barrier = true, security_invoker = true) AS SELECT count(*) AS n, nasty.add(1) AS a FROM nasty.plain;
CREATE VIEW nasty.checked AS SELECT * FROM nasty.tree WHERE id > 0 WITH CASCADED CHECK OPTION;
CREATE RECURSIVE VIEW nasty.descendants (id, depth) AS
    SELECT id, 0 FROM nasty.tree WHERE parent IS NULL UNION ALL SELECT t.id, depth + 1 FROM nasty.tree t JOIN descendants d ON t.parent = d.id;
CREATE VIEW nasty.by_rule AS SELECT id, amount FROM nasty.ledger;
CREATE RULE instead_of_insert AS ON INSERT TO nasty.by_rule DO INSTEAD INSERT INTO nasty.ledger VALUES (NEW.id, NEW.amount) RETURNING id, amount;
CREATE RULE quiet AS ON DELETE TO nasty.became_empty WHERE old.a < 0 DO INSTEAD NOTHING;
ALTER VIEW nasty.plain OWNER TO nasty_owner;
ALTER VIEW nasty.checked ALTER COLUMN path SET DEFAULT 'by the view';
GRANT SELECT ON nasty.plain TO nasty_reader;
CREATE MATERIALIZED VIEW nasty.z_totals AS SELECT region, count(*) AS n, sum(value) AS total FROM nasty.measured GROUP BY region;
CREATE UNIQUE INDEX z_totals_region ON nasty.z_totals (region);
CREATE MATERIALIZED VIEW nasty.a_grand_total AS SELECT sum(n) AS n FROM nasty.z_totals;
CREATE MATERIALIZED VIEW nasty.unfilled AS SELECT * FROM nasty.tree WITH NO DATA;
COMMENT ON MATERIALIZED VIEW nasty.z_totals IS 'by region';

-- A view and a table that need each other: the primary key lets the view group by id alone.
CREATE VIEW nasty.needs_key AS SELECT t.id, t.path, count(*) FROM nasty.tree t GROUP BY t.id;

-- Indexes.
CREATE INDEX brin_moment ON nasty.measured_other USING brin (at) WITH (pages_per_range = 4);
CREATE INDEX trigrams ON nasty.awkward_text USING gin (note public.gin_trgm_ops);
CREATE INDEX documents ON nasty.every_type USING gin (jsonb jsonb_path_ops);
CREATE INDEX partial ON nasty.awkward_text (lower(note) DESC NULLS LAST) INCLUDE (id) WHERE note <> 'it''s';
CREATE INDEX backwards ON nasty.tree (id nasty.backwards);
CREATE INDEX insensitive ON nasty.awkward_text (note COLLATE nasty.any_case) WITH (fillfactor = 70);
CREATE INDEX full_text ON nasty.awkward_text USING gin (to_tsvector('nasty.search', left(body, 1000)));
CREATE INDEX by_pattern ON nasty.tree (path text_pattern_ops);
CREATE INDEX hash_index ON nasty.tree USING hash (path);
ALTER INDEX nasty.partial ALTER COLUMN 1 SET STATISTICS 500;
CLUSTER nasty.tree USING tree_pkey;
ALTER TABLE nasty.keyed REPLICA IDENTITY USING INDEX keyed_pkey;
ALTER TABLE nasty.booked REPLICA IDENTITY FULL;
CREATE STATISTICS nasty.related (dependencies, ndistinct, mcv) ON at, region FROM nasty.measured_2024;
CREATE STATISTICS nasty.computed ON (value * 2), region FROM nasty.measured_other;
ALTER STATISTICS nasty.related SET STATISTICS 50;
ALTER TABLE nasty.measured ALTER COLUMN value SET STATISTICS 7, ALTER COLUMN region SET (n_distinct = 4);

-- Triggers that would spoil the data if they fired while it is loaded.
CREATE FUNCTION nasty.spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.amount := NEW.amount * 2; RETURN NEW; END $$;
CREATE FUNCTION nasty.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no rows here: %', TG_ARGV[0]; END $$;
CREATE TRIGGER spoil BEFORE INSERT OR UPDATE OF amount ON nasty.ledger FOR EACH ROW EXECUTE FUNCTION nasty.spoil();
CREATE TRIGGER "Refuse it" BEFORE INSERT ON nasty.tree FOR EACH STATEMENT EXECUTE FUNCTION nasty.refuse('it''s \ full');
CREATE TRIGGER disabled BEFORE INSERT ON nasty.booked FOR EACH ROW EXECUTE FUNCTION nasty.refuse();
ALTER TABLE nasty.booked DISABLE TRIGGER disabled;
CREATE TRIGGER always AFTER DELETE ON nasty.keyed REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION nasty.refuse();
ALTER TABLE nasty.keyed ENABLE ALWAYS TRIGGER always;
CREATE TRIGGER by_replica AFTER INSERT ON nasty.measured FOR EACH ROW WHEN (NEW.value < 0) EXECUTE FUNCTION nasty.refuse();
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON nasty.chicken DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION nasty.refuse();
CREATE FUNCTION nasty.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE DEBUG 'ddl'; END $$;
CREATE EVENT TRIGGER watch_ddl ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE') EXECUTE FUNCTION nasty.on_ddl();
CREATE EVENT TRIGGER asleep ON sql_drop EXECUTE FUNCTION nasty.on_ddl();
ALTER EVENT TRIGGER asleep DISABLE;
COMMENT ON TRIGGER "Refuse it" ON nasty.tree IS 'refuses';

-- Row security, also forced upon the owner.
ALTER TABLE nasty.with_extensions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON nasty.with_extensions FOR SELECT TO nasty_reader USING (login = current_user::text::nasty.citext);
CREATE POLICY "no deletes" ON nasty.with_extensions AS RESTRICTIVE FOR DELETE USING (false);
CREATE POLICY inserts ON nasty.with_extensions FOR INSERT WITH CHECK (id > (SELECT max(id) FROM nasty.ledger));
ALTER TABLE nasty.with_extensions OWNER TO nasty_owner;

-- Publications. The one for all tables leaves updates alone: tables without a key could not be updated.
CREATE PUBLICATION everything FOR ALL TABLES WITH (publish = 'insert');
CREATE PUBLICATION "some" FOR TABLE nasty.keyed (a, b) WHERE (a > 3), nasty.measured WITH (publish = 'insert, update', publish_via_partition_root = true);
CREATE PUBLICATION by_schema FOR TABLES IN SCHEMA empty_schema, "Weird Schema.with ""dots""";

COMMENT ON TABLE nasty.tree IS 'trees''
\.
COPY';
COMMENT ON COLUMN nasty.tree.path IS '';
COMMENT ON CONSTRAINT hatched ON nasty.chicken IS 'which was first?';
COMMENT ON INDEX nasty.partial IS 'partial';
COMMENT ON POLICY own ON nasty.with_extensions IS 'own rows';
COMMENT ON PUBLICATION "some" IS 'some';
COMMENT ON EVENT TRIGGER asleep IS 'zzz';
COMMENT ON SEQUENCE nasty.huge IS 'at its end';
ALTER TABLE nasty.tree OWNER TO "Nasty ""Röle""";
ALTER SCHEMA empty_schema OWNER TO nasty_group;
ANALYZE;
