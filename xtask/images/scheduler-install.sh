
# What follows the installation of PostgreSQL: Debian's cron, systemd for its analyser, and cronie beside cron, which
# Debian lets no host have together.
apt-get -q -o Acquire::Check-Valid-Until=false update
apt-get -q install -y --no-install-recommends cron systemd tzdata
cd /tmp
apt-get -q download cronie
dpkg -x cronie_*.deb /opt/cronie
rm -f cronie_*.deb
cp /opt/cronie/etc/pam.d/cronie /etc/pam.d/
# What cron is to leave to cronie, and the host's own jobs, which no test waits for.
rm -rf /etc/cron.d/* /etc/cron.daily/* /etc/cron.hourly/* /etc/cron.weekly/* /etc/cron.monthly/*
apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old
