#!/bin/sh
# Starts a throw-away PostgreSQL as user postgres; arguments go to the server (-c name=value …).
#   POSTGRES_PASSWORD      the superuser's password (scram); without it every connection is trusted
#   POSTGRES_LOCALE        the cluster's locale, C.UTF-8 by default
#   POSTGRES_INITDB_ARGS   more arguments for initdb, separated by spaces
set -eu
data=/var/lib/postgresql/data

if [ ! -s "$data/PG_VERSION" ]; then
    auth=trust
    password_file=
    if [ -n "${POSTGRES_PASSWORD:-}" ]; then
        auth=scram-sha-256
        password_file=$(mktemp)
        printf '%s\n' "$POSTGRES_PASSWORD" >"$password_file"
    fi
    # shellcheck disable=SC2086 # the initdb arguments are meant to be split
    initdb --no-sync --pgdata="$data" --username=postgres --encoding=UTF8 \
        --locale="${POSTGRES_LOCALE:-C.UTF-8}" --auth-local=trust --auth-host="$auth" \
        ${password_file:+--pwfile="$password_file"} ${POSTGRES_INITDB_ARGS:-}
    [ -z "$password_file" ] || rm -f "$password_file"
    printf 'host all all all %s\nhost replication all all %s\n' "$auth" "$auth" >>"$data/pg_hba.conf"
fi
unset POSTGRES_PASSWORD

# The self-signed certificate that came with the packages: clients that prefer TLS get it.
key=/etc/ssl/private/ssl-cert-snakeoil.key
if [ -r "$key" ]; then
    set -- -c ssl=on -c ssl_cert_file=/etc/ssl/certs/ssl-cert-snakeoil.pem -c ssl_key_file="$key" "$@"
fi

exec postgres -D "$data" -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql "$@"
