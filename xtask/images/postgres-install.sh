#!/bin/sh
# Run as root in a container of a bare Debian: installs PostgreSQL $1 and a few locales, nothing else.
set -eu
export DEBIAN_FRONTEND=noninteractive
major=$1

# No daemon starts while packages are configured, and no cluster is made: the start script makes its own.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 0755 /usr/sbin/policy-rc.d
mkdir -p /etc/postgresql-common
echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf

# Debian's unstable is imported from snapshots whose Release file may have expired.
apt-get -q -o Acquire::Check-Valid-Until=false update
apt-get -q install -y --no-install-recommends "postgresql-$major" locales openssl ssl-cert

localedef -i en_US -f UTF-8 en_US.UTF-8
localedef -i de_DE -f ISO-8859-1 de_DE.ISO-8859-1

# An extension with configuration tables, of which PostgreSQL itself brings none: pg_dump dumps the rows
# that meet the condition, and the sequence's state.
extensions=/usr/share/postgresql/$major/extension
cat >"$extensions/pgkeep_probe.control" <<'CONTROL'
comment = 'configuration tables to be dumped'
default_version = '1.0'
relocatable = false
schema = pgkeep_probe
CONTROL
cat >"$extensions/pgkeep_probe--1.0.sql" <<'SQL'
CREATE TABLE setting (name text PRIMARY KEY, value text, built_in boolean NOT NULL DEFAULT false);
INSERT INTO setting VALUES ('version', '1.0', true);
CREATE SEQUENCE ticket;
SELECT pg_catalog.pg_extension_config_dump('setting', 'WHERE NOT built_in');
SELECT pg_catalog.pg_extension_config_dump('ticket', '');
SQL

# The server runs as postgres and may read the self-signed key.
usermod -a -G ssl-cert postgres
install -d -o postgres -g postgres -m 0700 /var/lib/postgresql/data
install -d -o postgres -g postgres -m 2775 /var/run/postgresql

apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old /var/log/*.log /var/log/apt /usr/share/i18n/locales
