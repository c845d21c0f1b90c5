-- What every repository of the museum holds. Never changed: what a new repository should hold besides goes into a file of its own.
CREATE SCHEMA "Shop";
CREATE TYPE "Shop".state AS ENUM ('new', 'paid', 'sent');
CREATE TABLE "Shop".customers (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    since date DEFAULT '2024-02-29',
    data jsonb
);
CREATE TABLE "Shop".orders (
    id bigserial,
    at timestamptz NOT NULL,
    customer int REFERENCES "Shop".customers,
    state "Shop".state DEFAULT 'new',
    amount numeric(12, 2) CHECK (amount >= 0),
    note text,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE TABLE "Shop".orders_2024 PARTITION OF "Shop".orders FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE "Shop".orders_2025 PARTITION OF "Shop".orders FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE "Shop".hashed (id int, word text) PARTITION BY HASH (word);
CREATE TABLE "Shop".hashed_0 PARTITION OF "Shop".hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE "Shop".hashed_1 PARTITION OF "Shop".hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE "Shop".nothing (x int);
CREATE TABLE public.odd (
    "größe €" text, b bytea, a int[], span interval, t tsvector,
    doubled int GENERATED ALWAYS AS (1 * 2) STORED
);
CREATE INDEX ON "Shop".orders (customer) WHERE state <> 'sent';
CREATE SEQUENCE public.counter START 7 INCREMENT 3;
CREATE VIEW "Shop".unpaid AS SELECT o.id, c.name, o.amount FROM "Shop".orders o JOIN "Shop".customers c ON c.id = o.customer WHERE o.state = 'new';
CREATE MATERIALIZED VIEW "Shop".sums AS SELECT customer, sum(amount) AS amount FROM "Shop".orders GROUP BY 1 WITH NO DATA;
CREATE FUNCTION "Shop".touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := coalesce(NEW.note, 'touched'); RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE INSERT ON "Shop".orders FOR EACH ROW EXECUTE FUNCTION "Shop".touch();
COMMENT ON TABLE "Shop".customers IS 'those who pay; 客户';

INSERT INTO "Shop".customers (name, data) SELECT 'customer ' || n, jsonb_build_object('n', n, 'tags', ARRAY['a', 'ü']) FROM generate_series(1, 20) n;
INSERT INTO "Shop".orders (at, customer, state, amount, note)
SELECT '2024-06-01 12:00+00'::timestamptz + n * interval '9 days', n % 20 + 1, (ARRAY['new', 'paid', 'sent'])[n % 3 + 1]::"Shop".state, n * 1.25,
       CASE n % 4 WHEN 0 THEN NULL WHEN 1 THEN E'tab\tline\nbackslash \\ end' ELSE 'note ' || n END
FROM generate_series(0, 59) n;
INSERT INTO "Shop".hashed SELECT n, 'word ' || n FROM generate_series(1, 30) n;
INSERT INTO public.odd VALUES ('naïve \. \N', '\x00ff5c0a', '{1,NULL,3}', '1 day 02:00:00', 'a:1 b:2'), (NULL, NULL, NULL, NULL, NULL);
SELECT setval('public.counter', 22);
SELECT lo_from_bytea(4711, convert_to('the first large object', 'UTF8'));
SELECT lo_from_bytea(4712, '\x000102fffe');
COMMENT ON LARGE OBJECT 4711 IS 'large';
DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'museum_reader') THEN CREATE ROLE museum_reader; END IF; END $$;
GRANT USAGE ON SCHEMA "Shop" TO museum_reader;
GRANT SELECT ON "Shop".customers TO museum_reader;
