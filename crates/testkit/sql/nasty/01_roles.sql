SET client_min_messages = warning;

-- Roles are the cluster's, not the database's: made once, used by every nasty database.
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['nasty_owner', 'nasty_reader', 'nasty_group', 'Nasty "Röle"'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I', role);
        END IF;
    END LOOP;
END $$;
ALTER ROLE nasty_owner LOGIN PASSWORD 'owner-s3cret';
GRANT nasty_group TO nasty_reader, nasty_owner;
GRANT nasty_reader TO "Nasty ""Röle""" WITH ADMIN OPTION;

-- What belongs to the database but is not in the archive's entries: settings (one a secret), grants, comment.
ALTER DATABASE :"DBNAME" SET app.jwt_secret = 'jwt-s3cret-in-a-setting';
ALTER DATABASE :"DBNAME" SET "TimeZone" = 'Asia/Kolkata';
ALTER DATABASE :"DBNAME" SET bytea_output = 'escape';
ALTER DATABASE :"DBNAME" SET "DateStyle" = 'SQL, DMY';
ALTER DATABASE :"DBNAME" SET "IntervalStyle" = 'iso_8601';
ALTER ROLE nasty_reader IN DATABASE :"DBNAME" SET work_mem = '17MB';
GRANT CONNECT, TEMPORARY ON DATABASE :"DBNAME" TO nasty_reader;
GRANT CREATE ON DATABASE :"DBNAME" TO nasty_owner WITH GRANT OPTION;
REVOKE TEMPORARY ON DATABASE :"DBNAME" FROM PUBLIC;
COMMENT ON DATABASE :"DBNAME" IS E'nasty: it''s "quoted", has a \\ and\na second line';
