#!/usr/bin/env bash
# Scenario 1 of docs/RECOVERY.md: the database is damaged; take back the newest backup.
#
# Needs DATABASE_URL and the stores' settings as for backups (or a pgkeep.toml).
# STOP_APPLICATION and START_APPLICATION are commands, such as "systemctl stop saas"; none by default.
set -euo pipefail

${STOP_APPLICATION:-true}

# A new database is made beside the damaged one, proven row by row, then swapped in by rename. The damaged one is kept
# for whoever looks into the cause. The backup of it before the swap may fail: that is a warning.
pgkeep restore --latest --yes

${START_APPLICATION:-true}

echo "If this was a mistake: pgkeep rollback"
