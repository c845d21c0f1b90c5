#!/bin/sh
# Run as root in a container of a bare Debian: installs what one Ceph with an S3 gateway needs, and
# curl, which signs S3 requests for whoever has no client at hand.
set -eu
export DEBIAN_FRONTEND=noninteractive

printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 0755 /usr/sbin/policy-rc.d

apt-get -q -o Acquire::Check-Valid-Until=false update
apt-get -q install -y --no-install-recommends ceph-mon ceph-osd ceph-common radosgw curl

apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old /var/log/*.log /var/log/apt
