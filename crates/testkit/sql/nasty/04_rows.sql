SET datestyle = 'ISO, MDY';
SET intervalstyle = 'postgres';
INSERT INTO nasty.every_type (
    f4, f8, num, num_scaled, cash, flag, small, big, "char", padded, name, words, bytes, bits, varbits,
    day, moment, naive, clock, clock_tz, span, span_field, json, jsonb, xml, uuid, net, host, mac, mac8,
    point, line, segment, box, path, polygon, circle, vector, query, lsn, snapshot, xid, relation,
    ints, nums, days, moments, floats, many, mood, moods, person, book, email, count, grid, sparse, mine, pairs, jpath)
VALUES
    ('NaN', 'Infinity', 'NaN', 123456789012345.12345, -12.34, true, -32768, -9223372036854775808, '\377', 'ab', 'n', '', '',
     B'10101010101', B'', 'infinity', '-infinity', '0044-03-15 12:00:00 BC', '24:00', '00:00:00+15:59',
     '-178000000 years', '1 day 02:03:04.56', '{"b": 1, "a" :  [1, null], "b": 2}', '{"z": 1e400, "é": "\u0001\\", "n": null}',
     '<a>&lt;<!-- c --></a>', '00000000-0000-0000-0000-000000000000', '10.0.0.0/8', '2001:db8::1/64', '08:00:2b:01:02:03',
     '08:00:2b:01:02:03:04:05', '(NaN,-Infinity)', '{1,-1,0}', '[(0,0),(1e-300,1e300)]', '((1,1),(0,0))', '[(0,0),(1,1),(2,0)]',
     '((0,0),(1,1),(2,0))', '<(1,2),3>', $$'it''s':1A 'b\\c':2,3B$$, $$'a' & !('b' <-> 'c':*)$$, 'FFFFFFFF/FFFFFFFF', '10:20:10,14,15', '18446744073709551615',
     'pg_catalog.pg_class', '[1,5)', '(,)', 'empty', '{[2024-01-01 00:00+00,2024-02-01 00:00+00),[2025-01-01 00:00+00,)}', '[-Infinity,NaN)', '{(1,2),[3.5,4.5]}',
     'meh', '{sad,NULL,"it''s \"complicated\""}', ROW('A "B" (C), \D', ARRAY[ROW('s,t', '12 3', '(1,2)')::nasty.address, NULL], 'happy'),
     ARRAY[ROW('x', NULL, NULL)::nasty.address], 'Foo@Example.COM', 3, '[-1:0][2:3]={{1,2},{3,NULL}}', '{"NULL",NULL,"",",","{","\\","\""}', E'my\ttext',
     'a=>1, "b c"=>NULL, "\""=>"\\"', '$.a[*] ? (@.b > 1)'),
    ('-0', '5e-324', 'Infinity', NULL, '$92,233,720,368,547,758.07', false, 32767, 9223372036854775807, 'x', E'tab\tx', 'name with spaces', E'\x01\x02\x7f', '\x000a0d5c2e0aff',
     B'00000000000', B'1', '4713-01-01 BC', 'infinity', '294276-12-31 23:59:59.999', '00:00', '12:34:56.789-08', '178000000 years 11 mons -3 days +04:05:06.7', '-10 days',
     'null', '"\ud83d\ude00"', '', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '::/0', '255.255.255.255', 'ff:ff:ff:ff:ff:ff', 'ff:ff:ff:ff:ff:ff:ff:ff',
     '(1.0000000000000002,-0)', '{0,1,5}', '[(1,1),(1,1)]', '(1,1),(1,1)', '((0,0),(1,1))', '((0,0))', '<(0,0),0>', '', '', '0/0', '1:1:', '0', NULL,
     'empty', '[-Infinity,Infinity]', '[-infinity,infinity)', '{}', 'empty', '{}', 'sad', '{}', ROW(NULL, NULL, NULL), '{}', NULL, 1, '{}', '{{a,b},{c,d}}', '', '', 'lax $'),
    ('1.17549435e-38', '1.7976931348623157e308', '-Infinity', -0.00001, NULL, NULL, NULL, NULL, '', '', '', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
     '  [ 1 ,2 ]  ', '[]', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
     NULL, NULL, NULL, NULL, NULL, 2, NULL, NULL, NULL, NULL, NULL);
INSERT INTO nasty.every_type (num, count) VALUES ((repeat('9', 5000) || '.' || repeat('1', 4000))::numeric, 5);

INSERT INTO nasty.awkward_text (note, body, tags) VALUES
    ('end of data', '\.', '{\\.}'), ('end of data in a line', E'a\n\\.\nb', NULL), ('null marker', '\N', '{NULL,"NULL"}'),
    ('empty', '', '{}'), ('null', NULL, NULL), ('tabs', E'\t\ta\tb\t', NULL), ('line ends', E'\n\r\n\r\n\n', NULL),
    ('backslashes', '\\\\n\t\0\x41\', NULL), ('controls', E'\b\f\v\x01\x1b\x7f', NULL), ('spaces', '   ', '{" "}'),
    ('emoji', '👩‍👩‍👧‍👦🇺🇦e' || U&'\0301', NULL), ('right to left', 'שלום ' || U&'\202E' || 'abc', NULL), ('byte order mark', U&'\FEFF' || 'x', NULL),
    ('highest', U&'\+10FFFF', NULL), ('quotes', '''"`$$;--/*', NULL), ('sql', $x$COPY x FROM stdin;
\.
DROP TABLE y;$x$, NULL);
INSERT INTO nasty.awkward_text (note, body) SELECT 'long line ' || n, repeat(chr(64 + n) || E'\\\t', n * 40000) FROM generate_series(1, 9) n;
INSERT INTO nasty.awkward_text (note, body) SELECT 'row ' || n, md5(n::text) FROM generate_series(1, 2000) n;

INSERT INTO "Weird Schema.with ""dots"""."Größe ""quoted"" таблица 🐘" VALUES (1, 'ü', 'a\b', E'a\nb', 7, '$2'), (2, NULL, '', NULL, NULL, '$$');
INSERT INTO "Weird Schema.with ""dots""".U&"line\000Abreak" VALUES ('"', '''', '.');
INSERT INTO nasty.a23456789_123456789_123456789_123456789_123456789_123456789_123 SELECT generate_series(1, 3);
INSERT INTO nasty."table" VALUES (1, 'me', true), (NULL, NULL, false);
INSERT INTO nasty.no_columns DEFAULT VALUES;
INSERT INTO nasty.no_columns SELECT FROM generate_series(1, 4);
INSERT INTO nasty.all_generated SELECT FROM generate_series(1, 3);
INSERT INTO nasty.dropped_columns SELECT n, n, 'gone', 'kept ' || n, now() FROM generate_series(1, 5) n;
ALTER TABLE nasty.dropped_columns DROP COLUMN gone_first, DROP COLUMN gone_middle, DROP COLUMN gone_last, ADD COLUMN added text DEFAULT 'since then';
INSERT INTO nasty.dropped_columns VALUES (6, 'after', 'new');
INSERT INTO nasty.became_empty SELECT n, 'x' FROM generate_series(1, 100) n;
DELETE FROM nasty.became_empty;
INSERT INTO nasty.generated (net, comment) VALUES (100, 'c'), ('NaN', NULL);
SELECT format('INSERT INTO nasty.wide SELECT %s', string_agg(CASE WHEN n % 3 = 0 THEN 'NULL' ELSE n::text END, ', ')) FROM generate_series(1, 400) n \gexec
INSERT INTO nasty.typed VALUES ('Main St', '1', '(1,2)');
INSERT INTO nasty.unlogged (value) SELECT 'u' || n FROM generate_series(1, 50) n;
INSERT INTO nasty.stored_oddly SELECT repeat('a' || n, 3000), repeat('b' || n, 3000), repeat('c' || n, 3000), repeat('d' || n, 300) FROM generate_series(1, 20) n;
WITH block AS (SELECT string_agg(sha256(n::text::bytea), ''::bytea ORDER BY n) AS bytes FROM generate_series(1, 8192) n)
INSERT INTO nasty.big_value
    SELECT 1, string_agg(block.bytes, ''::bytea) FROM block, generate_series(1, :big_value_bytes / 262144);
INSERT INTO nasty.big_value VALUES (2, ''), (3, NULL);

INSERT INTO nasty.parent VALUES (1, 'in the parent');
INSERT INTO nasty.child VALUES (2, 'in the child', 'e', 22), (-3, NULL, NULL, NULL);
INSERT INTO nasty.adopted VALUES (3, 'adopted', 33);
INSERT INTO nasty.measured (at, region, value)
    SELECT date '2023-11-01' + n, (ARRAY['eu', 'us', 'uk', 'ünï'])[1 + n % 4], n / 3.0 FROM generate_series(1, 1100) n;
INSERT INTO nasty.hashed SELECT m, m::text || n FROM unnest(enum_range(NULL::nasty.mood)) m, generate_series(1, 40) n;

BEGIN;
INSERT INTO nasty.chicken SELECT n, 51 - n FROM generate_series(1, 50) n;
INSERT INTO nasty.egg SELECT n, 51 - n FROM generate_series(1, 50) n;
COMMIT;
INSERT INTO nasty.tree SELECT n, NULLIF(n / 2, 0), 'root/' || n FROM generate_series(1, 200) n;
INSERT INTO nasty.booked VALUES (1, '[2025-01-01 00:00+00,2025-01-02 00:00+00)'), (1, '[2025-01-02 00:00+00,)'), (0, '(,)'), (0, '(,)');
INSERT INTO nasty.keyed SELECT n, 'k' || n, n FROM generate_series(1, 10) n;
INSERT INTO nasty.referring SELECT n, 'k' || n, n FROM generate_series(1, 10) n;
INSERT INTO nasty.with_extensions (id, attributes, login, note, uuid)
    SELECT n, public.hstore('k', n::text), 'User' || n, 'Ärger ' || n, md5(n::text)::uuid FROM generate_series(1, 30) n;
INSERT INTO nasty.ledger VALUES (1, 10.5), (2, -3);

SELECT nextval('nasty.descending'), nextval('nasty.descending'), setval('nasty.huge', 9223372036854775807);

-- Large objects: one beyond 2^31, one empty, one with a hole, one with owner, grants and a comment.
SELECT lo_from_bytea(3000000001, '\x5c2e0a00ff' || decode(repeat('0123456789abcdef', 40000), 'hex'));
SELECT lo_create(4000000002);
SELECT lo_from_bytea(1001, 'start');
SELECT lo_put(1001, 300000, 'end');
SELECT lo_from_bytea(1002, 'owned');
ALTER LARGE OBJECT 1002 OWNER TO nasty_owner;
GRANT SELECT ON LARGE OBJECT 1002 TO nasty_reader;
GRANT UPDATE ON LARGE OBJECT 3000000001 TO nasty_group WITH GRANT OPTION;
COMMENT ON LARGE OBJECT 1002 IS 'an owner''s';
SELECT count(lo_from_bytea(2000 + n, sha256(n::text::bytea))) FROM generate_series(1, 1200) n;

\if :has_17
INSERT INTO nasty.partitioned_identity (k) VALUES (1), (1);
\endif
\if :has_18
INSERT INTO nasty.new_in_18 (a, c, during) VALUES (1, -1, '[2025-01-01,2025-02-01)'), (1, 5, '[2025-02-01,)');
\endif
