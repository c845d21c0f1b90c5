#!/usr/bin/env bash
# Scenario 3 of docs/RECOVERY.md: rows were deleted by mistake; bring them back, touch no row that lives.
#
#   deleted-rows.sh schema.table "2025-10-17 02:00"
#
# The table comes from the newest backup whose snapshot is not after that time (UTC), into a database of its own; what the live
# table lacks, by its primary key, is copied over in one transaction. Needs DATABASE_URL and the stores' settings as for backups.
set -euo pipefail

table=${1:?"which table? schema.name"}
before=${2:?"before what time (UTC) were the rows still there?"}
recovery="recovery_$(date -u +%Y%m%d_%H%M%S)"

pgkeep restore --before "$before" --table "$table" --target-db "$recovery" --yes

# The same server, the other database.
recovery_url=$(sed -E "s#^(postgres(ql)?://[^/]*/)[^?]*#\1$recovery#" <<<"$DATABASE_URL")
rows=$(mktemp)
trap 'rm -f "$rows"' EXIT

# Generated columns fill themselves.
columns=$(psql -XAtq -d "$DATABASE_URL" -v table="$table" <<'SQL'
SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum)
FROM pg_attribute WHERE attrelid = :'table'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
SQL
)
psql -XAtq -v ON_ERROR_STOP=1 -d "$recovery_url" -c "COPY (SELECT $columns FROM $table) TO STDOUT" >"$rows"

psql -X -v ON_ERROR_STOP=1 -d "$DATABASE_URL" <<SQL
BEGIN;
CREATE TEMPORARY TABLE recovered ON COMMIT DROP AS SELECT $columns FROM $table WITH NO DATA;
\copy recovered FROM '$rows'
INSERT INTO $table ($columns) OVERRIDING SYSTEM VALUE SELECT * FROM recovered ON CONFLICT DO NOTHING;
COMMIT;
SQL

echo "The copy is in $recovery; when all is well: psql -d postgres -c 'DROP DATABASE $recovery'"
