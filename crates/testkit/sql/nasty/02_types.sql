CREATE SCHEMA nasty AUTHORIZATION nasty_owner;
CREATE SCHEMA "Weird Schema.with ""dots""";
CREATE SCHEMA empty_schema;
COMMENT ON SCHEMA nasty IS 'first line
\.
second line -- not a comment; DROP TABLE x;';
GRANT USAGE ON SCHEMA nasty TO nasty_reader, PUBLIC;
GRANT ALL ON SCHEMA "Weird Schema.with ""dots""" TO "Nasty ""Röle""" WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE nasty_owner IN SCHEMA nasty GRANT SELECT ON TABLES TO nasty_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE nasty_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT USAGE ON TYPES TO nasty_group;

CREATE EXTENSION hstore SCHEMA public;
CREATE EXTENSION citext SCHEMA nasty;
CREATE EXTENSION pg_trgm;
CREATE EXTENSION btree_gist;
CREATE EXTENSION postgres_fdw;
CREATE EXTENSION "uuid-ossp";
COMMENT ON EXTENSION hstore IS 'our own words about hstore';
CREATE SCHEMA pgkeep_probe;
CREATE EXTENSION pgkeep_probe SCHEMA pgkeep_probe;
INSERT INTO pgkeep_probe.setting VALUES ('colour', 'blue', false), ('shape', E'round\tor\nnot', false);
SELECT setval('pgkeep_probe.ticket', 4711);

-- Enums, one of them extended in the middle (its sort order is not its creation order).
CREATE TYPE nasty.mood AS ENUM ('sad', 'ok', 'happy', 'it''s "complicated"');
ALTER TYPE nasty.mood ADD VALUE 'meh' BEFORE 'ok';
CREATE TYPE nasty."Size Class" AS ENUM ('S', 'M', 'L');

CREATE TYPE nasty.address AS (street text, "post code" varchar(10), geo point);
CREATE TYPE nasty.person AS (name text, homes nasty.address[], mood nasty.mood);
CREATE TYPE nasty.shell_only;
CREATE TYPE nasty.float_range AS RANGE (subtype = float8, subtype_diff = float8mi, multirange_type_name = nasty.float_multi);
CREATE DOMAIN nasty.positive AS integer DEFAULT 1 NOT NULL CONSTRAINT positive_check CHECK (VALUE > 0);
CREATE DOMAIN nasty.email AS nasty.citext CHECK (VALUE OPERATOR(nasty.~) '^[^@]+@[^@]+$'::nasty.citext);
CREATE DOMAIN nasty.address_book AS nasty.address[] CHECK (array_length(VALUE, 1) < 10);
ALTER DOMAIN nasty.positive ADD CONSTRAINT not_seven CHECK (VALUE <> 7) NOT VALID;
ALTER TYPE nasty.address OWNER TO nasty_owner;
COMMENT ON TYPE nasty.mood IS 'how it feels';
COMMENT ON COLUMN nasty.address."post code" IS 'not a number';

-- A base type made of the server's own functions.
CREATE TYPE nasty.mytext;
CREATE FUNCTION nasty.mytext_in(cstring) RETURNS nasty.mytext LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION nasty.mytext_out(nasty.mytext) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE nasty.mytext (INPUT = nasty.mytext_in, OUTPUT = nasty.mytext_out, LIKE = text, CATEGORY = 'S');

CREATE COLLATION nasty.german_phonebook (provider = icu, locale = 'de-u-co-phonebk');
CREATE COLLATION nasty.any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
COMMENT ON COLLATION nasty.any_case IS 'A = a';

CREATE TEXT SEARCH DICTIONARY nasty.words (TEMPLATE = pg_catalog.simple, STOPWORDS = english);
CREATE TEXT SEARCH CONFIGURATION nasty.search (COPY = pg_catalog.simple);
ALTER TEXT SEARCH CONFIGURATION nasty.search ALTER MAPPING FOR asciiword, word WITH nasty.words, pg_catalog.simple;

-- Functions of every kind, with bodies that look like the end of something.
CREATE FUNCTION nasty.add(a integer, b integer DEFAULT 40 + 2) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT COST 5 AS $body$ SELECT a + b /* $$ \. */ $body$;
CREATE FUNCTION nasty.standard_body(x integer) RETURNS bigint LANGUAGE sql STABLE
    BEGIN ATOMIC SELECT x::bigint * 2; END;
CREATE FUNCTION nasty.split(text, VARIADIC separators text[]) RETURNS SETOF text LANGUAGE plpgsql ROWS 3 AS $$
BEGIN
    RETURN QUERY SELECT unnest(string_to_array($1, separators[1]));
END;
$$;
CREATE FUNCTION nasty.pair(IN x integer, OUT twice integer, OUT half numeric) LANGUAGE sql
    AS 'SELECT x * 2, x / 2.0';
CREATE FUNCTION nasty.secure() RETURNS text LANGUAGE sql SECURITY DEFINER
    SET search_path = nasty, pg_temp SET work_mem = '8MB' AS $$ SELECT current_user::text $$;
CREATE PROCEDURE nasty.proceed(INOUT n integer) LANGUAGE plpgsql AS $$ BEGIN n := n + 1; COMMIT; END $$;
ALTER FUNCTION nasty.add(integer, integer) OWNER TO nasty_owner;
REVOKE EXECUTE ON FUNCTION nasty.secure() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION nasty.secure() TO nasty_reader;
COMMENT ON FUNCTION nasty.add(integer, integer) IS 'adds
-- \. --';

CREATE FUNCTION nasty.sum_state(numeric, nasty.positive) RETURNS numeric LANGUAGE sql IMMUTABLE
    AS $$ SELECT coalesce($1, 0) + coalesce($2::integer, 0) $$;
CREATE AGGREGATE nasty.total(nasty.positive) (SFUNC = nasty.sum_state, STYPE = numeric, INITCOND = '0');
CREATE FUNCTION nasty.same_address(nasty.address, nasty.address) RETURNS boolean LANGUAGE sql IMMUTABLE
    AS $$ SELECT ($1).street IS NOT DISTINCT FROM ($2).street $$;
CREATE OPERATOR nasty.=== (LEFTARG = nasty.address, RIGHTARG = nasty.address, FUNCTION = nasty.same_address, COMMUTATOR = OPERATOR(nasty.===));
CREATE FUNCTION nasty.to_address(text) RETURNS nasty.address LANGUAGE sql IMMUTABLE
    AS $$ SELECT ROW($1, NULL, NULL)::nasty.address $$;
CREATE CAST (text AS nasty.address) WITH FUNCTION nasty.to_address(text) AS ASSIGNMENT;
CREATE FUNCTION nasty.reverse_compare(integer, integer) RETURNS integer LANGUAGE sql IMMUTABLE
    AS $$ SELECT pg_catalog.btint4cmp($2, $1) $$;
CREATE OPERATOR FAMILY nasty.backwards_family USING btree;
CREATE OPERATOR CLASS nasty.backwards FOR TYPE integer USING btree FAMILY nasty.backwards_family AS
    OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 nasty.reverse_compare(integer, integer);
CREATE CONVERSION nasty.latin FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
