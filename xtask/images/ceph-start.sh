#!/bin/bash
# Starts a throw-away Ceph (one monitor, one OSD in memory) with an S3 gateway on port 8000, and says
# "ceph: ready" on stdout when the gateway answers.
#   S3_ACCESS_KEY, S3_SECRET_KEY   the user to create
set -euo pipefail
access_key=${S3_ACCESS_KEY:?}
secret_key=${S3_SECRET_KEY:?}
fsid=$(cat /proc/sys/kernel/random/uuid)

cat >/etc/ceph/ceph.conf <<CONF
[global]
fsid = $fsid
mon host = 127.0.0.1
mon initial members = a
auth cluster required = none
auth service required = none
auth client required = none
mon allow pool size one = true
mon allow pool delete = true
mon warn on pool no redundancy = false
# A monitor ends itself when 5 % of the disk are left: on a developer's full disk nobody would know why.
mon data avail crit = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
mon max pg per osd = 1000
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 4294967296
log to file = false
mon cluster log to file = false
[client.rgw]
rgw frontends = beast port=8000
rgw crypt require ssl = false
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = testkey=$(head -c 32 /dev/zero | base64)
CONF

# The monitor and the OSD.
mkdir -p /var/lib/ceph/mon/ceph-a /var/lib/ceph/osd/ceph-0 /var/run/ceph
monmaptool --create --add a 127.0.0.1:6789 --fsid "$fsid" /tmp/monmap >/dev/null
ceph-mon --mkfs -i a --monmap /tmp/monmap
ceph-mon -i a
ceph osd create >/dev/null
ceph-osd -i 0 --mkfs
ceph-osd -i 0
ceph osd crush add 0 1.0 root=default host=h

# The user, and the two storage classes beside STANDARD (names only: nothing is ever frozen).
radosgw-admin user create --uid=pgkeep --display-name=pgkeep \
    --access-key="$access_key" --secret-key="$secret_key" >/dev/null
for class in STANDARD_IA GLACIER; do
    radosgw-admin zonegroup placement add --rgw-zonegroup default \
        --placement-id default-placement --storage-class "$class" >/dev/null
    radosgw-admin zone placement add --rgw-zone default \
        --placement-id default-placement --storage-class "$class" --data-pool default.rgw.buckets.data >/dev/null
done

radosgw -d -n client.rgw 2>/tmp/radosgw.log &
gateway=$!
trap 'kill "$gateway" 2>/dev/null; exit 0' TERM INT
until (exec 3<>/dev/tcp/127.0.0.1/8000) 2>/dev/null; do
    if ! kill -0 "$gateway" 2>/dev/null; then
        cat /tmp/radosgw.log >&2
        exit 1
    fi
    sleep 0.2
done
echo 'ceph: ready'
wait "$gateway"
