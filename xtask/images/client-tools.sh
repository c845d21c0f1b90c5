#!/bin/sh
# Run in a PostgreSQL image of major $1: writes a tar of the client tools and of every shared library
# they load, the loader among them, so that they run on a host with another C library.
set -eu
major=$1
stage=$(mktemp -d)
mkdir "$stage/libexec" "$stage/lib"
for tool in pg_dump pg_dumpall pg_restore psql; do
    cp "/usr/lib/postgresql/$major/bin/$tool" "$stage/libexec/"
    ldd "/usr/lib/postgresql/$major/bin/$tool"
done | awk '$2 == "=>" { print $3 } $1 ~ /^\// { print $1 }' | sort -u | while read -r library; do
    cp -L "$library" "$stage/lib/"
done
tar -C "$stage" -c .
rm -rf "$stage"
