-- Thousands of small tables, 620 tables and some 200 MB at scale 1; psql variable "scale". All rows follow from their number.
SET synchronous_commit = off;
SET timezone = 'UTC';

CREATE SCHEMA app;
SELECT format('CREATE TABLE app.tenant_%s (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, at timestamptz NOT NULL, amount numeric(12, 2), note text)', lpad(n::text, 5, '0'))
FROM generate_series(1, greatest((620 * :scale)::integer, 1)) n \gexec
-- A tenth of the tables is large, three tenths are middling, most are next to empty.
SELECT format('INSERT INTO app.tenant_%s (name, at, amount, note)
    SELECT substr(md5(k::text), 1, 12) || ''@example.com'', timestamptz ''2024-01-01'' + k * interval ''%s seconds'', k * 0.37, md5(%s || '':'' || k)
    FROM generate_series(1, %s) k', lpad(n::text, 5, '0'), n, n, CASE WHEN n % 10 = 0 THEN 9000 WHEN n % 10 < 4 THEN 1600 ELSE 40 END)
FROM generate_series(1, greatest((620 * :scale)::integer, 1)) n \gexec
SELECT format('CREATE INDEX ON app.tenant_%s (at)', lpad(n::text, 5, '0'))
FROM generate_series(1, greatest((620 * :scale)::integer, 1)) n \gexec
ANALYZE;
