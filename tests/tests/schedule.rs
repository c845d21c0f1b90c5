//! `pgkeep schedule` and `setup-backup-cron` on hosts with real cron daemons and a real PostgreSQL: installed, shown, fired,
//! tested, removed.

use std::time::Duration;

use pgkeep_testkit::{Aws, CronDaemon, MailServer, PostgresOptions, PostgresServer, Receiver, SchedulerHost};
use serde_json::Value;

/// Daemons look at crontabs once a minute, some at changes only in the next.
const SOON: Duration = Duration::from_mins(4);

const FOREIGN: &[u8] = b"# somebody's own \xe9\nMAILTO=\"\"\n\n17 4 * * 1  /bin/true   \n";

/// A host with a database `shop` and an env-file for it.
fn host(zone: &str) -> SchedulerHost {
    let host = SchedulerHost::start(zone);
    host.run("createdb -h /var/run/postgresql -U postgres shop");
    host.run(
        "psql -q -h /var/run/postgresql -U postgres shop -c \
         'create table orders as select n, md5(n::text) from generate_series(1, 1000) n'",
    );
    let settings = format!("DATABASE_URL='{}'\nBACKUP_DIR=/var/backups/pgkeep\n", host.url("shop"));
    host.run("mkdir -p /etc/pgkeep");
    host.write("/etc/pgkeep/env", settings.as_bytes());
    host.write("/root/foreign", FOREIGN);
    host.run("crontab /root/foreign");
    host
}

fn crontab(host: &SchedulerHost) -> Vec<u8> {
    host.try_run("crontab -l").stdout
}

fn text(host: &SchedulerHost) -> String {
    String::from_utf8_lossy(&crontab(host)).into_owned()
}

fn json(host: &SchedulerHost, command: &str) -> Value {
    let output = host.try_run(&format!("{command} --output json"));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{command}: {error}\n{output:?}"))
}

const INSTALL: &str = "pgkeep schedule install --env-file /etc/pgkeep/env";

/// `minute hour`, in UTC, of a moment that a daemon has not passed yet.
fn soon(host: &SchedulerHost) -> String {
    host.run("date -u -d '+90 seconds' '+%-M %-H'").trim().to_owned()
}

#[test]
fn a_schedule_in_utc_is_installed_fired_shown_tested_and_removed() {
    let host = host("Etc/UTC");
    host.start_daemon(CronDaemon::Debian);

    let dry = host.run(&format!("{INSTALL} --dry-run"));
    assert!(dry.contains("\n0 3 * * * cd "), "{dry}");
    assert!(dry.contains("at 02:00 on Sundays"), "{dry}");
    assert_eq!(crontab(&host), FOREIGN, "a dry run writes nothing");

    let daily = format!("{} * * *", soon(&host));
    let install = format!("{INSTALL} --daily '{daily}' --jitter 0");
    let document = json(&host, &install);
    assert_eq!(document["changed"], true, "{document}");
    assert_eq!((&document["daemon"], &document["guard"]), (&Value::from("cron"), &Value::from(false)));
    assert_eq!(document["jobs"][0]["next"].as_array().map(Vec::len), Some(3));
    let installed = crontab(&host);
    assert!(installed.starts_with(FOREIGN), "{}", text(&host));
    assert!(
        text(&host).contains(&format!("\n{daily} cd /root && /usr/local/bin/pgkeep backup --daily")),
        "{}",
        text(&host)
    );
    assert!(text(&host).contains("\n0 2 * * 0 cd /root && "), "{}", text(&host));
    assert_eq!(json(&host, &install)["changed"], false);
    assert_eq!(crontab(&host), installed, "again is the same");
    assert!(!text(&host).contains("s3cr3t"), "{}", text(&host));

    let tested = json(&host, "pgkeep schedule test");
    assert_eq!(tested["outcome"], "ok", "{tested}");
    assert_eq!(tested["tests"].as_array().map(Vec::len), Some(3));
    assert_eq!(host.run("ls /var/backups/pgkeep 2>/dev/null | wc -l").trim(), "0", "a test makes no backup");

    host.wait_for("ls /var/backups/pgkeep/daily_*.meta", SOON);
    host.wait_for("grep -q 'Backup Complete' /var/log/backups.log", SOON);
    let log = host.run("cat /var/log/backups.log");
    assert_eq!(log.matches("Backup Complete").count(), 1, "each line is written once\n{log}");
    let verified = host.run("pgkeep verify --latest --env-file /etc/pgkeep/env 2>&1");
    assert!(!verified.contains("FAILED"), "{verified}");

    let shown = json(&host, "pgkeep schedule show --env-file /etc/pgkeep/env");
    let what = shown["jobs"][0]["last"]["what"].as_str().unwrap_or_default().to_owned();
    assert!(what.starts_with("daily_"), "{shown}");
    assert_eq!(shown["jobs"][1]["last"], Value::Null);
    let said = host.try_run("pgkeep schedule show --env-file /etc/pgkeep/env");
    assert!(String::from_utf8_lossy(&said.stdout).contains(&what), "{said:?}");
    assert!(String::from_utf8_lossy(&said.stderr).contains("BACKUP_SCHEDULE_DAILY"), "{said:?}");

    // The database is away: the test fails as the job would.
    host.run("sed -i s/5432/1/ /etc/pgkeep/env");
    let tested = json(&host, "pgkeep schedule test");
    assert_eq!(tested["error"]["code"], "job_failed", "{tested}");
    assert!(tested["tests"][0]["problem"].as_str().is_some_and(|why| why.contains("127.0.0.1:1")), "{tested}");

    let removed = json(&host, "pgkeep schedule remove");
    assert_eq!(removed["removed"][0]["scheduler"], "cron", "{removed}");
    assert_eq!(crontab(&host), FOREIGN, "byte for byte");
    assert_eq!(json(&host, "pgkeep schedule remove")["removed"], serde_json::json!([]));
}

/// A stranger's first evening: a host with nothing but the program, settings, one command, and from then on it works by itself.
#[test]
fn a_fresh_host_backs_up_by_itself_and_tells_everybody_when_it_cannot() {
    let host = SchedulerHost::start("Etc/UTC");
    let gateway = host.gateway();
    let (aws, mail) = (Aws::start_at(&gateway), MailServer::start_at(&gateway, None));
    let (webhook, subscriber) = (Receiver::start_at(&gateway), Receiver::start_at(&gateway));
    let topic = aws.create_topic("ops");
    aws.subscribe(&topic, &subscriber.url());
    let confirmations = subscriber.requests().len();
    aws.create_bucket("company-backups");
    let server = PostgresServer::start(17, &PostgresOptions::default());
    server.psql("postgres", "CREATE DATABASE shop");
    server.psql("shop", "CREATE TABLE orders AS SELECT n, md5(n::text) FROM generate_series(1, 1000) n");
    let url = server.url("shop").replace("127.0.0.1", &gateway);

    host.start_daemon(CronDaemon::Debian);
    let mut settings = vec![
        ("DATABASE_URL", url),
        ("AWS_S3_BACKUP_BUCKET", "company-backups".to_owned()),
        ("NOTIFICATION_EMAIL", "ops@example.test".to_owned()),
        ("NOTIFICATION_SMTP_URL", mail.url("")),
        ("NOTIFICATION_WEBHOOK_URL", webhook.url()),
        ("NOTIFICATION_SNS_TOPIC", topic),
        // What the stand-in for AWS needs beside.
        ("CLOUDWATCH_NAMESPACE", "PgKeep/Backups".to_owned()),
        ("AWS_ENDPOINT_URL", aws.url()),
    ];
    settings.extend(aws.environment());
    let settings: Vec<_> = settings.iter().map(|(name, value)| format!("{name}='{value}'")).collect();
    host.run("mkdir -p /etc/pgkeep");
    host.write("/etc/pgkeep/env", settings.join("\n").as_bytes());
    let install = format!("{INSTALL} --daily '* * * * *' --weekly none --monthly none --jitter 0");
    assert_eq!(json(&host, &install)["outcome"], "ok");

    let counted = || {
        let found = aws.statistics("PgKeep/Backups", "BackupSuccess", "shop");
        found.map_or((0, 0), |(runs, successes, _)| (runs, successes.round() as u64))
    };
    eventually("a run of cron is counted", || counted().0 > 0);
    assert_eq!(counted().1, counted().0, "each of them succeeded");
    let listed = json(&host, "pgkeep list --env-file /etc/pgkeep/env");
    assert!(listed["backups"].as_array().is_some_and(|backups| !backups.is_empty()), "{listed}");
    assert!(mail.messages().is_empty() && webhook.requests().is_empty(), "a success is no news");

    server.kill();
    let told = || !mail.messages().is_empty() && !webhook.requests().is_empty();
    eventually("mail and webhook tell of it", || told() && subscriber.requests().len() > confirmations);
    let message = mail.messages().remove(0);
    assert!(message.contains("backup of shop on") && message.contains("What to do:"), "{message}");
    assert!(webhook.requests()[0].body.contains("backup of shop on"), "{:?}", webhook.requests());
    assert!(subscriber.requests()[confirmations].body.contains("backup of shop on"), "{:?}", subscriber.requests());
    eventually("the failed run is counted", || counted().1 < counted().0);
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = std::time::Instant::now() + SOON;
    while !holds() {
        assert!(std::time::Instant::now() < until, "{what}: not within {SOON:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn elsewhere_debians_cron_is_given_a_guard() {
    let host = host("Europe/Berlin");
    host.start_daemon(CronDaemon::Debian);
    let daily = format!("{} * * *", soon(&host));
    let document = json(&host, &format!("{INSTALL} --daily '{daily}' --weekly none --monthly none --jitter 0"));
    assert_eq!(
        (&document["zone"], &document["guard"]),
        (&Value::from("Europe/Berlin"), &Value::from(true)),
        "{document}"
    );
    let minute = daily.split(' ').next().unwrap_or_default();
    assert!(text(&host).contains(&format!("\n{minute} * * * * cd /root && ")), "{}", text(&host));
    assert!(text(&host).contains(&format!(" --if-due '{daily}' ")), "{}", text(&host));
    assert_eq!(json(&host, "pgkeep schedule test")["outcome"], "ok");

    host.wait_for("ls /var/backups/pgkeep/daily_*.meta", SOON);
    host.wait_for("grep -q 'Backup Complete' /var/log/backups.log", SOON);
    // The next look finds that nothing is due.
    let job = text(&host).lines().find_map(|line| line.split_once(" * * * * ").map(|(_, job)| job.to_owned()));
    host.run(&job.expect("the crontab has the job"));
    assert_eq!(host.run("ls /var/backups/pgkeep/daily_*.meta | wc -l").trim(), "1");

    assert_eq!(json(&host, "pgkeep schedule remove")["outcome"], "ok");
    assert_eq!(crontab(&host), FOREIGN);
}

#[test]
fn elsewhere_cronie_is_told_the_zone() {
    let host = host("Asia/Kolkata");
    let path = "PATH=/opt/cronie/usr/bin:$PATH";
    host.start_daemon(CronDaemon::Cronie);
    let daily = format!("{} * * *", soon(&host));
    let document = json(&host, &format!("{path} {INSTALL} --daily '{daily}' --jitter 0"));
    assert_eq!((&document["daemon"], &document["guard"]), (&Value::from("cronie"), &Value::from(false)), "{document}");
    assert!(text(&host).contains("\nCRON_TZ=UTC\n"), "{}", text(&host));
    assert!(text(&host).contains("\nCRON_TZ=Asia/Kolkata\n# <<<"), "{}", text(&host));
    host.wait_for("ls /var/backups/pgkeep/daily_*.meta", SOON);
    assert_eq!(json(&host, &format!("{path} pgkeep schedule remove"))["outcome"], "ok");
    assert_eq!(crontab(&host), FOREIGN);
}

#[test]
fn the_drop_in_does_what_the_script_did() {
    let host = host("Etc/UTC");
    // The script's settings lay beside it.
    host.run("mkdir -p /srv/app && cp /etc/pgkeep/env /srv/app/.env && cp -p /etc/pgkeep/env /srv/app/.env");
    let run = |arguments: &str| host.try_run(&format!("cd /srv/app && setup-backup-cron {arguments}"));
    let said = run("--test");
    assert!(said.status.success(), "nothing is installed yet, and what would be works: {said:?}");
    let said = run("--install");
    assert!(said.status.success(), "{said:?}");
    assert!(String::from_utf8_lossy(&said.stderr).contains("no cron daemon is running"), "{said:?}");
    for (times, class) in [("0 3 * * *", "daily"), ("0 2 * * 0", "weekly"), ("0 1 1 * *", "monthly")] {
        let line = format!(
            "\n{times} cd /srv/app && /usr/local/bin/pgkeep backup --{class} --jitter 300s --env-file /srv/app/.env"
        );
        assert!(text(&host).contains(&line), "{line}\n{}", text(&host));
    }
    assert!(text(&host).contains(" --compression gzip:6 "), "runbooks' gunzip goes on working: {}", text(&host));
    let said = run("--show");
    assert!(String::from_utf8_lossy(&said.stdout).contains("at 01:00 on the 1st of the month"), "{said:?}");
    let said = run("--test");
    assert_eq!(said.status.code(), Some(2), "the daemon does not run: {said:?}");
    assert!(String::from_utf8_lossy(&said.stderr).contains("systemctl enable --now cron"), "{said:?}");
    host.start_daemon(CronDaemon::Debian);
    host.wait_for("cd /srv/app && setup-backup-cron --test", SOON);
    let said = run("--remove");
    assert!(said.status.success(), "{said:?}");
    assert_eq!(crontab(&host), FOREIGN);
}

#[test]
fn a_user_of_ones_own_and_several_schedules() {
    let host = host("Etc/UTC");
    host.start_daemon(CronDaemon::Debian);
    host.run("install -d -o postgres -m 700 /var/lib/postgresql/backups");
    let settings = "DATABASE_URL='postgresql:///shop?host=/var/run/postgresql'\n\
                    BACKUP_DIR=/var/lib/postgresql/backups\nLOG_FILE=/var/lib/postgresql/backups.log\n";
    host.write("/var/lib/postgresql/env", settings.as_bytes());
    let install = "pgkeep schedule install --user postgres --env-file /var/lib/postgresql/env";
    host.run(&format!("cd / && {install}"));
    // root's file that postgres can't read: the test as postgres finds it.
    let tested = json(&host, "pgkeep schedule test --user postgres");
    assert_eq!(tested["error"]["code"], "job_failed", "{tested}");
    host.run("chgrp postgres /var/lib/postgresql/env && chmod 640 /var/lib/postgresql/env");
    let tested = json(&host, "pgkeep schedule test --user postgres");
    assert_eq!(tested["outcome"], "ok", "{tested}");

    // Other settings do not take its place by mistake.
    let document = json(&host, "cd / && pgkeep schedule install --user postgres --env-file /etc/pgkeep/env");
    assert_eq!(document["error"]["code"], "settings_invalid", "{document}");
    host.run("cd / && pgkeep schedule install --user postgres --env-file /etc/pgkeep/env --name other");
    let both = host.run("crontab -u postgres -l");
    assert_eq!(both.matches(" backup --daily ").count(), 2, "{both}");
    // A log that postgres can't write would keep its jobs from starting.
    assert!(both.lines().any(|line| line.contains(">>/var/lib/postgresql/backups.log")), "{both}");
    assert!(!both.lines().any(|line| line.contains(">>/var/log/backups.log")), "{both}");
    host.run("pgkeep schedule remove --user postgres");
    assert_eq!(host.run("crontab -u postgres -l").matches(" backup --daily ").count(), 1);
    host.run("pgkeep schedule remove --user postgres --name other");
    let none = host.try_run("crontab -u postgres -l");
    assert!(!none.status.success(), "there was no crontab before: {none:?}");
}

#[test]
fn what_cannot_be_scheduled() {
    let host = host("Etc/UTC");
    let code = |command: &str| {
        let document = json(&host, command);
        (document["error"]["code"].as_str().unwrap_or_default().to_owned(), document.to_string())
    };
    let (found, said) = code(&format!("{INSTALL} --daily '0 25 * * *'"));
    assert_eq!(found, "settings_invalid", "{said}");
    assert!(said.contains("25 is no hour: 0 to 23"), "{said}");
    let (found, said) = code(&format!("DATABASE_URL='{}' pgkeep schedule install", host.url("shop")));
    assert_eq!(found, "settings_invalid", "{said}");
    assert!(said.contains("DATABASE_URL is only in this environment") && !said.contains("s3cr3t"), "{said}");
    host.run("echo nobody >/etc/cron.allow && chgrp postgres /etc/pgkeep/env && chmod 640 /etc/pgkeep/env");
    let postgres = "cd / && setpriv --reuid=postgres --regid=postgres --init-groups";
    let (found, said) = code(&format!("{postgres} {INSTALL}"));
    assert_eq!(found, "scheduler_refused", "{said}");
    assert!(said.contains("not allowed") && said.contains("/etc/cron.allow"), "{said}");
    host.run("mv /usr/bin/crontab /usr/bin/crontab.away");
    let (found, said) = code(INSTALL);
    assert_eq!(found, "scheduler_missing", "{said}");
    let (found, said) = code(&format!("{INSTALL} --systemd"));
    assert_eq!(found, "scheduler_missing", "{said}");
}

#[test]
fn systemd_takes_the_units() {
    let host = host("Etc/UTC");
    let daily = "--daily '*/15 8-17 13 1,7 1-5' --verify '30 4 * * 6'";
    let install = format!("{INSTALL} {daily} --name shop --unit-dir /tmp/units --user postgres");
    host.run(&install);
    assert_eq!(json(&host, &install)["changed"], false);
    let files = host.run("ls /tmp/units");
    assert_eq!(
        files.split_whitespace().collect::<Vec<_>>(),
        ["daily", "monthly", "verify", "weekly"]
            .map(|job| [format!("pgkeep-shop-{job}.service"), format!("pgkeep-shop-{job}.timer")])
            .concat()
    );
    let verified = host.try_run("systemd-analyze verify --man=no /tmp/units/*");
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && !said.contains("/tmp/units"), "{said}");

    // systemd finds the same times as the expressions.
    let shown = json(&host, &format!("{install} --dry-run"));
    for job in shown["jobs"].as_array().expect("jobs") {
        let timer = format!("/tmp/units/pgkeep-shop-{}.timer", job["job"].as_str().unwrap_or_default());
        let events = host.run(&format!("sed -n 's/^OnCalendar=//p' {timer}"));
        let mut found: Vec<String> = Vec::new();
        for event in events.lines() {
            let said = host.run(&format!("TZ=UTC systemd-analyze calendar --iterations=3 '{event}'"));
            let times = said.lines().filter(|line| line.contains("Next elapse:") || line.contains("Iteration #"));
            found.extend(times.filter_map(|line| {
                let words: Vec<_> = line.split_whitespace().collect();
                let zone = words.iter().position(|word| *word == "UTC")?;
                Some(format!("{}T{}Z", words[zone - 2], words[zone - 1]))
            }));
        }
        found.sort();
        found.dedup();
        found.truncate(3);
        let expected: Vec<_> = job["next"].as_array().expect("times").iter().filter_map(Value::as_str).collect();
        assert_eq!(found, expected, "{job}\n{events}");
    }
}
