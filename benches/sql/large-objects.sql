-- Scans as large objects, which do not compress, some 200 MB at scale 1; psql variable "scale". All bytes follow from the object's number.
SELECT (1100 * :scale)::integer AS scans \gset
SET synchronous_commit = off;
SET timezone = 'UTC';

CREATE EXTENSION pgcrypto;
CREATE SCHEMA app;
CREATE TABLE app.folders (id integer PRIMARY KEY, title text NOT NULL);
CREATE TABLE app.scans (id integer PRIMARY KEY, folder_id integer NOT NULL, title text NOT NULL, content oid NOT NULL);

INSERT INTO app.folders SELECT n, 'Folder ' || n FROM generate_series(1, 40) n;
-- From 4 to 256 KiB.
INSERT INTO app.scans
SELECT n, 1 + n % 40, 'Scan ' || n, lo_from_bytea(0, encrypt(decode(repeat('00', 4096 * (1 + n * 37 % 64)), 'hex'), decode(md5(n::text), 'hex'), 'aes'))
FROM generate_series(1, :scans) n;

DROP EXTENSION pgcrypto;
ALTER TABLE app.scans ADD FOREIGN KEY (folder_id) REFERENCES app.folders;
ANALYZE;
