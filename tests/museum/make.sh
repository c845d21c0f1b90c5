#!/bin/sh
# Makes the repositories of one format with the pgkeep that is named, as README.md says:
#   make.sh PGKEEP FOLDER postgresql://postgres:password@host:port
# The server is an empty PostgreSQL 17 with a superuser postgres; pg_dump 17 and psql are in the PATH. Nothing of FOLDER may exist.
set -eu
pgkeep=$1 folder=$2 server=$3
here=$(cd "$(dirname "$0")" && pwd)
mkdir "$folder"
folder=$(cd "$folder" && pwd)
psql -qX -v ON_ERROR_STOP=1 "$server/postgres" -c 'DROP DATABASE IF EXISTS museum' -c 'CREATE DATABASE museum TEMPLATE template0'
psql -qX -v ON_ERROR_STOP=1 "$server/museum" -f "$here/content.sql" >/dev/null
# Secrets belong into no repository: not even this server's password.
psql -qX -v ON_ERROR_STOP=1 "$server/postgres" -c "ALTER DATABASE museum SET work_mem = '5MB'"

run() { # NAME COMMAND…
    name=$1
    shift
    env -i PATH="$PATH" HOME="$folder" DATABASE_URL="$server/museum" BACKUP_STORE="file://$folder/$name" BACKUP_DIR=none LOG_FILE=none \
        BACKUP_ROLE_PASSWORDS=false BACKUP_COMPRESSION="${compression:-zstd:1}" BACKUP_ENCRYPT_TO="${recipient:-}" \
        BACKUP_IDENTITY_FILE="${identity:-}" "$pgkeep" --quiet "$@"
}

for codec in zstd:3 gzip:6 lz4 none; do
    name=${codec%:*}
    compression=$codec run "$name" backup --daily
    compression=$codec run "$name" verify --latest --deep >/dev/null
done
# By pg_dump alone, and of another class.
run pg_dump backup --weekly --engine pg_dump
# Encrypted to a key that lies beside it, open to all: it opens nothing else.
run encrypted keygen --to "$folder/encrypted.key" >/dev/null
recipient=$(sed -n 's/^# public key: //p' "$folder/encrypted.key") identity=$folder/encrypted.key
run encrypted backup --monthly
run encrypted verify --latest --deep >/dev/null
recipient='' identity=''
# What the old shell scripts left: a compressed archive, with metadata of theirs and without; the first one adopted.
mkdir "$folder/scripts"
for stamp in 20251001_030001 20251002_030001; do
    pg_dump -Fc "$server/museum" | gzip -9n >"$folder/scripts/daily_$stamp.dump.gz"
done
cp "$here/scripts.meta" "$folder/scripts/daily_20251001_030001.dump.gz.meta"
run scripts adopt "$folder/scripts/daily_20251001_030001.dump.gz" >/dev/null
# Locks say which machine this was, and nothing else.
rm -rf "$folder"/*/.pgkeep
psql -qX "$server/postgres" -c 'DROP DATABASE museum'
