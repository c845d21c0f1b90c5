#!/usr/bin/env bash
# Scenario 2 of docs/RECOVERY.md: the server is gone; a new one, empty, takes its place.
#
# Run it on a blank host with the programs pgkeep and PostgreSQL's client tools. Needs DATABASE_URL of the new server (the database need
# not exist), AWS_S3_BACKUP_BUCKET with credentials, and, for encrypted backups, BACKUP_IDENTITY_FILE.
set -euo pipefail

# No local copy, no log of the old host: the bucket has all there is.
export BACKUP_DIR=none

pgkeep list
# --roles creates the roles that the backup's objects belong to.
pgkeep restore --latest --roles --yes
