-- One table with 95 % of the bytes, some 200 MB at scale 1; psql variable "scale". All rows follow from their number.
SELECT (830000 * :scale)::integer AS events, (36000 * :scale)::integer AS accounts \gset
SET synchronous_commit = off;
SET timezone = 'UTC';

CREATE SCHEMA app;
CREATE TABLE app.plans (id integer PRIMARY KEY, name text NOT NULL, price numeric(8, 2) NOT NULL);
CREATE TABLE app.accounts (id integer PRIMARY KEY, plan_id integer NOT NULL, email text NOT NULL, name text NOT NULL, created_at timestamptz NOT NULL);
CREATE TABLE app.events (
    id bigint PRIMARY KEY, at timestamptz NOT NULL, account_id integer NOT NULL, kind text NOT NULL, path text NOT NULL,
    amount integer, attributes jsonb NOT NULL);

INSERT INTO app.plans SELECT n, 'plan ' || n, n * 9.99 FROM generate_series(1, 12) n;
INSERT INTO app.accounts
SELECT n, 1 + n % 12, substr(md5(n::text), 1, 12) || '@example.com', 'Account ' || md5('name' || n), timestamptz '2020-01-01' + n * interval '29 minutes'
FROM generate_series(1, :accounts) n;
INSERT INTO app.events
SELECT n, timestamptz '2024-01-01' + n * interval '11 seconds', 1 + n * 7919::bigint % :accounts,
       (ARRAY['view', 'click', 'purchase', 'refund', 'login', 'logout'])[1 + n % 6], '/shop/' || n * 31::bigint % 5000 || '/' || substr(md5(n::text), 1, 10),
       CASE WHEN n % 3 = 0 THEN n * 37::bigint % 100000 END,
       jsonb_build_object('browser', (ARRAY['firefox', 'chrome', 'safari'])[1 + n % 3], 'ms', n * 13::bigint % 2000, 'session', substr(md5('s' || n / 7), 1, 16))
FROM generate_series(1, :events) n;

CREATE INDEX ON app.events (account_id, at);
ALTER TABLE app.accounts ADD FOREIGN KEY (plan_id) REFERENCES app.plans;
ANALYZE;
