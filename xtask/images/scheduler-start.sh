#!/bin/sh
# As root sets the host's zone to $HOST_ZONE; then, as postgres, starts PostgreSQL as below. Tests start a cron daemon beside.
if [ "$(id -u)" = 0 ]; then
    ln -sf "/usr/share/zoneinfo/${HOST_ZONE:-Etc/UTC}" /etc/localtime
    echo "${HOST_ZONE:-Etc/UTC}" >/etc/timezone
    exec setpriv --reuid=postgres --regid=postgres --init-groups sh "$0" "$@"
fi
