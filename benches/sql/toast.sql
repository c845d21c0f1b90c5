-- Media as bytea out of line, which do not compress, some 200 MB at scale 1; psql variable "scale". All bytes follow from the row's number.
SELECT (930 * :scale)::integer AS media \gset
SET synchronous_commit = off;
SET timezone = 'UTC';

CREATE EXTENSION pgcrypto;
CREATE SCHEMA app;
CREATE TABLE app.albums (id integer PRIMARY KEY, title text NOT NULL);
CREATE TABLE app.media (id integer PRIMARY KEY, album_id integer NOT NULL, kind text NOT NULL, content bytea NOT NULL);
ALTER TABLE app.media ALTER COLUMN content SET STORAGE EXTERNAL;

INSERT INTO app.albums SELECT n, 'Album ' || n FROM generate_series(1, 40) n;
-- Pictures of 8 to 256 KiB, and one in twenty is a film of 1 to 2 MiB.
INSERT INTO app.media
SELECT n, 1 + n % 40, CASE WHEN n % 20 = 0 THEN 'video/mp4' ELSE 'image/jpeg' END, encrypt(decode(repeat('00', bytes), 'hex'), decode(md5(n::text), 'hex'), 'aes')
FROM generate_series(1, :media) n, LATERAL (SELECT CASE WHEN n % 20 = 0 THEN 1048576 + n % 64 * 16384 ELSE 8192 * (1 + n * 37 % 32) END) t(bytes);

DROP EXTENSION pgcrypto;
ALTER TABLE app.media ADD FOREIGN KEY (album_id) REFERENCES app.albums;
ANALYZE;
