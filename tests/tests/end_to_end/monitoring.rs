//! Who hears of runs, against real receivers: a mail server, HTTP, CloudWatch and SNS as moto has them.

use pgkeep_testkit::{Aws, Fault, FaultyTools, MailServer, PostgresOptions, PostgresServer, Receiver, saas};
use serde_json::{Value, json};

use crate::setup::{Run, Setup};

const NAMESPACE: &str = "WhatsAppSaaS/Backups";

/// A set-up that knows these services.
fn with_aws(url: &str, aws: &Aws) -> Setup {
    let mut setup = Setup::new(url).with("CLOUDWATCH_NAMESPACE", NAMESPACE);
    for (name, value) in aws.environment() {
        setup.set(name, value);
    }
    setup
}

/// All that was sent of a metric: count, sum, most.
fn statistics(aws: &Aws, metric: &str, database: &str) -> Option<(u64, f64, f64)> {
    aws.statistics(NAMESPACE, metric, database)
}

fn document(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run}"))
}

#[test]
fn what_is_measured_is_read_back_from_everywhere() {
    let (aws, gateway) = (Aws::start(), Receiver::start());
    let source = PostgresServer::shared(17).create_database("measured");
    saas::load(source.server(), &source, 0.02);
    let mut setup = with_aws(&source.url(), &aws).with("PUSHGATEWAY_URL", gateway.url());
    let textfiles = setup.folder().join("textfiles");
    std::fs::create_dir(&textfiles).expect("a folder");
    setup.set("PROMETHEUS_TEXTFILE_DIR", &textfiles);
    let name = source.name().to_owned();

    let mut stored = 0.0_f64;
    for number in 1..=4 {
        let made = document(&setup.pgkeep(&["backup", "--output", "json"]));
        assert_eq!(made["outcome"], "ok", "{made}");
        stored = stored.max(made["backup"]["stored_bytes"].as_f64().expect("a size"));
        let change = statistics(&aws, "BackupSizeChange", &name);
        assert_eq!(change.is_some(), number == 4, "three earlier ones are needed: {change:?}");
    }
    assert_eq!(statistics(&aws, "BackupSuccess", &name), Some((4, 4.0, 1.0)));
    let (count, _, most) = statistics(&aws, "BackupSize", &name).expect("sizes");
    assert!(count == 4 && (most - stored).abs() < 0.5, "{most} {stored}");
    assert_eq!(statistics(&aws, "BackupDuration", &name).expect("durations").0, 4);
    let (_, _, change) = statistics(&aws, "BackupSizeChange", &name).expect("a change");
    assert!(change.abs() < 10.0, "{change}");
    assert_eq!(statistics(&aws, "RestoreTestAge", &name).expect("ages").0, 4);

    let text = std::fs::read_to_string(textfiles.join(format!("pgkeep_{name}.prom"))).expect("a textfile");
    assert!(text.contains(&format!("pgkeep_backups{{database=\"{name}\",class=\"daily\"}} 4\n")), "{text}");
    assert!(text.contains("pgkeep_last_success_timestamp_seconds"), "{text}");
    assert!(
        text.contains(&format!("pgkeep_last_run_success{{database=\"{name}\",operation=\"daily backup\"}} 1\n")),
        "{text}"
    );
    let pushed = gateway.requests();
    assert_eq!(pushed.len(), 4);
    assert_eq!((pushed[3].method.as_str(), &pushed[3].path), ("PUT", &format!("/metrics/job/pgkeep/database/{name}")));
    assert_eq!(pushed[3].body, text);

    // A restore is measured too, and is the test that the next backup counts from.
    setup.pgkeep(&["restore", "--latest", "--target-db", &format!("{name}_copy"), "--yes"]);
    assert_eq!(statistics(&aws, "RestoreSuccess", &name), Some((1, 1.0, 1.0)));
    assert_eq!(statistics(&aws, "RestoreDuration", &name).expect("durations").0, 1);
    let text = std::fs::read_to_string(textfiles.join(format!("pgkeep_{name}.prom"))).expect("a textfile");
    assert!(text.contains("pgkeep_last_restore_test_timestamp_seconds"), "{text}");
    source.server().psql("postgres", &format!("DROP DATABASE {name}_copy"));
}

#[test]
fn settings_that_cannot_be_read_are_told_of_and_a_daily_backup_heals_no_monthly_one() {
    let (aws, webhook, pings) = (Aws::start(), Receiver::start(), Receiver::start());
    let source = PostgresServer::shared(17).create_database("mistyped");
    source.psql("CREATE TABLE t AS SELECT generate_series(1, 10) n");
    let mut setup = with_aws(&source.url(), &aws)
        .with("NOTIFICATION_WEBHOOK_URL", webhook.url())
        .with("BACKUP_PING_URL", pings.url());
    setup.set("BACKUP_JOBS", "many");
    let run = setup.run("pgkeep", &["backup", "--monthly"]);
    assert!(run.code == Some(2) && run.stderr.contains("BACKUP_JOBS"), "{run}");
    let posted = webhook.wait_for(1);
    assert!(posted[0].body.contains("monthly backup of") && posted[0].body.contains("BACKUP_JOBS"), "{posted:?}");
    assert!(pings.requests().iter().any(|ping| ping.path.starts_with("/fail?rid=")), "{:?}", pings.requests());
    assert_eq!(statistics(&aws, "BackupSuccess", source.name()), Some((1, 0.0, 0.0)));

    setup.set("BACKUP_JOBS", "2");
    setup.pgkeep(&["backup", "--daily"]);
    assert_eq!(webhook.requests().len(), 1, "nothing is well again: {:?}", webhook.requests());
    setup.pgkeep(&["backup", "--monthly"]);
    let posted = webhook.wait_for(2);
    assert!(posted[1].body.contains("monthly backup of") && posted[1].body.contains("well again"), "{posted:?}");

    // A config file that nobody can understand hides nobody either who is named elsewhere.
    std::fs::write(setup.folder().join("pgkeep.toml"), "bukcet = \"b\"\n").expect("written");
    setup.run("pgkeep", &["backup"]).failed_with(2, &["bukcet"]);
    assert!(webhook.wait_for(3)[2].body.contains("bukcet"));
}

#[test]
fn a_check_tries_mail_and_metrics_without_waking_anybody() {
    let (aws, mail) = (Aws::start(), MailServer::start(Some(("keeper", "right"))));
    let source = PostgresServer::shared(17).create_database("checked");
    source.psql("CREATE TABLE t AS SELECT generate_series(1, 10) n");
    let mut setup = with_aws(&source.url(), &aws).with("NOTIFICATION_EMAIL", "ops@example.test");
    let line = |run: &Run, name: &str| {
        let found = run.stdout.lines().find(|line| line.split_whitespace().nth(1) == Some(name));
        found.unwrap_or_else(|| panic!("no {name} in\n{run}")).trim().to_owned()
    };
    let nobody = setup.run("pgkeep", &["check"]);
    assert!(line(&nobody, "NOTIFICATION_EMAIL").starts_with("WARN"), "{nobody}");
    assert!(line(&nobody, "CloudWatch").starts_with("PASS"), "{nobody}");
    assert_eq!(statistics(&aws, "MonitorTest", source.name()), Some((1, 1.0, 1.0)));
    setup.set("NOTIFICATION_SMTP_URL", mail.url("keeper:right@"));
    let right = setup.run("pgkeep", &["check"]);
    assert!(line(&right, "mail").starts_with("PASS"), "{right}");
    setup.set("NOTIFICATION_SMTP_URL", mail.url("keeper:wr0ng-s3cret@"));
    let wrong = setup.run("pgkeep", &["check"]);
    assert!(line(&wrong, "mail").starts_with("FAIL") && wrong.code == Some(6), "{wrong}");
    assert!(!wrong.to_string().contains("wr0ng-s3cret"), "{wrong}");
    assert!(mail.messages().is_empty(), "{:?}", mail.messages());
}

#[test]
fn drills_are_restore_tests_that_are_measured() {
    let (aws, webhook) = (Aws::start(), Receiver::start());
    let source = PostgresServer::shared(17).create_database("drilled");
    saas::load(source.server(), &source, 0.02);
    let setup = with_aws(&source.url(), &aws).with("NOTIFICATION_WEBHOOK_URL", webhook.url());
    setup.pgkeep(&["drill"]);
    assert_eq!(statistics(&aws, "RestoreSuccess", source.name()), Some((1, 1.0, 1.0)));
    assert_eq!(statistics(&aws, "RestoreDuration", source.name()).expect("durations").0, 1);
    setup.pgkeep(&["drill", "--backup-only"]);
    setup.pgkeep(&["drill", "--integrity-only"]);
    assert_eq!(statistics(&aws, "RestoreSuccess", source.name()).expect("one").0, 1, "nothing else restores");
    assert_eq!(statistics(&aws, "BackupSuccess", source.name()), None, "a drill is no scheduled backup");

    for archive in setup.files().into_iter().filter(|file| file.ends_with(".dump.zst")) {
        let archive = setup.backups().join(archive);
        let mut bytes = std::fs::read(&archive).expect("the archive");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
        std::fs::write(&archive, bytes).expect("written");
    }
    setup.run("pgkeep", &["drill", "--restore-only"]).failed_with(4, &["database_restore: FAIL"]);
    assert_eq!(statistics(&aws, "RestoreSuccess", source.name()), Some((2, 1.0, 1.0)));
    assert_eq!(statistics(&aws, "RestoreDuration", source.name()).expect("durations").0, 1);
    let posted = webhook.wait_for(1);
    assert!(posted[0].body.contains("drill of"), "{posted:?}");
}

#[test]
fn a_locked_run_and_a_failed_one_are_each_exactly_one_zero() {
    let aws = Aws::start();
    let source = PostgresServer::shared(17).create_database("counted");
    saas::load(source.server(), &source, 0.02);
    let mut setup = with_aws(&source.url(), &aws);
    let tools = FaultyTools::new(17, "pg_dump", &Fault::HangsAfter { bytes: 2_000 });
    let real = pgkeep_testkit::client_tools_path();
    setup.set("PG_BINDIRS", tools.path());
    let first = setup.start("pgkeep", &["backup"]);
    let until = std::time::Instant::now() + std::time::Duration::from_mins(1);
    while tools.processes().is_empty() {
        assert!(std::time::Instant::now() < until, "pg_dump is not run");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    setup.set("PG_BINDIRS", real);
    setup.run("pgkeep", &["backup", "--wait", "0s"]).failed_with(7, &["locked by"]);
    assert_eq!(statistics(&aws, "BackupSuccess", source.name()), Some((1, 0.0, 0.0)));
    let sent = std::process::Command::new("kill").args(["-TERM", &first.id().to_string()]).status();
    assert!(sent.expect("kill can be run").success());
    let first = Run::of(&first.wait_with_output().expect("it ends"));
    assert_eq!(first.code, Some(143), "{first}");
    assert_eq!(statistics(&aws, "BackupSuccess", source.name()), Some((2, 0.0, 0.0)));
    setup.pgkeep(&["backup"]);
    assert_eq!(statistics(&aws, "BackupSuccess", source.name()), Some((3, 1.0, 1.0)));
    assert_eq!(statistics(&aws, "BackupSize", source.name()).expect("a size").0, 1, "only what was stored has a size");
}

#[test]
fn a_killed_database_reaches_mail_webhook_topic_and_ping() {
    let (aws, mail) = (Aws::start(), MailServer::start(Some(("keeper", "mail-passw0rd-s3cret"))));
    let (webhook, subscriber, pings) = (Receiver::start(), Receiver::start(), Receiver::start());
    let topic = aws.create_topic("ops");
    aws.subscribe(&topic, &subscriber.url());
    let server = PostgresServer::start(17, &PostgresOptions::default());
    server.psql("postgres", "CREATE DATABASE app");
    saas::load(&server, "app", 0.1);
    let mut setup = with_aws(&server.url("app"), &aws)
        .with("NOTIFICATION_EMAIL", "ops@example.test")
        .with("NOTIFICATION_SMTP_URL", mail.url("keeper:mail-passw0rd-s3cret@"))
        .with("NOTIFICATION_WEBHOOK_URL", format!("{}/services/hook-s3cret", webhook.url()))
        .with("NOTIFICATION_SNS_TOPIC", &topic)
        .with("BACKUP_PING_URL", format!("{}/ping/check-s3cret", pings.url()));
    let confirmations = subscriber.requests().len();

    setup.pgkeep(&["backup"]);
    assert!(mail.messages().is_empty() && webhook.requests().is_empty(), "a success is no news");
    let run_of = |path: &str| path.split("rid=").nth(1).expect("a run id").to_owned();
    let seen = pings.wait_for(2);
    assert!(seen[0].path.starts_with("/ping/check-s3cret/start?rid="), "{seen:?}");
    assert!(seen[1].path.starts_with("/ping/check-s3cret?rid="), "{seen:?}");
    assert_eq!(run_of(&seen[0].path), run_of(&seen[1].path));

    let tools = FaultyTools::new(17, "pg_dump", &Fault::Slow { milliseconds: 50 });
    setup.set("PG_BINDIRS", tools.path());
    setup.set("BACKUP_ENGINE", "pg_dump");
    let child = setup.start("pgkeep", &["backup"]);
    let until = std::time::Instant::now() + std::time::Duration::from_mins(1);
    while tools.processes().is_empty() {
        assert!(std::time::Instant::now() < until, "pg_dump is not run");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    std::thread::sleep(std::time::Duration::from_millis(700));
    server.kill();
    let run = Run::of(&child.wait_with_output().expect("it ends"));
    run.failed_with(5, &[]);

    let messages = mail.messages();
    assert_eq!(messages.len(), 1, "{run}");
    for words in ["X-Envelope: pgkeep@", "to ops@example.test", "backup of app", "What to do:", "Starting daily backup"]
    {
        assert!(messages[0].contains(words), "no {words:?} in\n{}", messages[0]);
    }
    let posted = webhook.wait_for(1);
    let text: Value = serde_json::from_str(&posted[0].body).expect("JSON");
    assert!(text["text"].as_str().is_some_and(|text| text.contains("backup of app")), "{text}");
    assert_eq!(posted[0].path, "/services/hook-s3cret");
    let published = subscriber.wait_for(confirmations + 1).pop().expect("a message");
    let message: Value = serde_json::from_str(&published.body).expect("JSON");
    assert!(message["Subject"].as_str().is_some_and(|subject| subject.contains("failed")), "{message}");
    let seen = pings.wait_for(4);
    assert!(seen[3].path.starts_with("/ping/check-s3cret/fail?rid="), "{seen:?}");
    assert!(seen[3].body.contains("backup failed"), "{seen:?}");
    assert_eq!(statistics(&aws, "BackupSuccess", "app"), Some((2, 1.0, 1.0)));

    // The server is away: perhaps another cause, then the same again, of which nobody hears within the day.
    setup.run("pgkeep", &["backup"]).failed_with(5, &[]);
    let told = mail.messages().len();
    setup.run("pgkeep", &["backup"]).failed_with(5, &[]);
    assert_eq!(mail.messages().len(), told);
    assert_eq!(webhook.requests().len(), told);

    server.start_again();
    setup.set("PG_BINDIRS", pgkeep_testkit::client_tools_path());
    setup.pgkeep(&["backup"]);
    let messages = mail.messages();
    assert_eq!(messages.len(), told + 1);
    assert!(messages[told].contains("is well again"), "{}", messages[told]);
    setup.pgkeep(&["backup"]);
    assert_eq!(mail.messages().len(), told + 1);

    for (path, bytes) in setup.everything_written() {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("s3cret"), "a secret is in {}", path.display());
    }
    assert!(!run.stderr.contains("s3cret") && !run.stdout.contains("s3cret"), "{run}");
}

#[test]
fn a_channel_that_is_down_is_a_warning() {
    let source = PostgresServer::shared(17).create_database("unheard");
    saas::load(source.server(), &source, 0.02);
    let broken = Receiver::start();
    broken.answer(500);
    let closed = "http://127.0.0.1:1";
    let mut setup = Setup::new(&source.url())
        .with("PUSHGATEWAY_URL", closed)
        .with("PROMETHEUS_TEXTFILE_DIR", "/nowhere/at/all")
        .with("BACKUP_PING_URL", format!("{}/s3cret", broken.url()));
    let made = setup.pgkeep(&["backup", "--output", "json"]);
    assert_eq!(document(&made)["outcome"], "warnings", "{made}");
    for channel in ["Pushgateway", "textfile", "ping"] {
        assert!(made.stderr.contains(&format!("{channel} could not be told")), "{channel}\n{made}");
    }
    assert!(!made.stderr.contains("s3cret"), "{made}");

    // A failure stays what it is, whoever can't be told of it; the next run tries again.
    setup = setup
        .with("NOTIFICATION_EMAIL", "ops@example.test")
        .with("NOTIFICATION_SMTP_URL", "smtp://user:s3cret@127.0.0.1:1")
        .with("NOTIFICATION_WEBHOOK_URL", broken.url())
        .with("DATABASE_URL", "postgresql://postgres:x@127.0.0.1:1/app");
    let failed = setup.run("pgkeep", &["backup"]);
    failed.failed_with(5, &["mail could not be told", "webhook could not be told", "HTTP 500"]);
    broken.answer(200);
    let before = broken.requests().len();
    setup.run("pgkeep", &["backup"]).failed_with(5, &["mail could not be told"]);
    let posted: Vec<_> = broken.requests().split_off(before);
    assert!(posted.iter().any(|request| request.body.contains("still fails")), "{posted:?}");
}

#[test]
fn monitoring_is_installed_tested_and_removed_exactly() {
    let aws = Aws::start();
    let source = PostgresServer::shared(17).create_database("watched");
    let setup = with_aws(&source.url(), &aws);
    let stem = format!("WhatsAppSaaS-Backups-{}", source.name());
    // What others have must stay.
    let alarm = json!({
        "AlarmName": format!("{stem}-of-somebody-else"), "MetricName": "m", "Namespace": "n", "Period": 60,
        "EvaluationPeriods": 1, "Threshold": 1.0, "ComparisonOperator": "LessThanThreshold", "Statistic": "Sum",
    });
    aws.cloudwatch("PutMetricAlarm", &alarm);
    let other_topic = aws.create_topic("others");

    let plan = setup.pgkeep(&["monitor", "install", "--dry-run", "--email", "ops@example.test"]);
    assert!(plan.stdout.contains("nothing was made"), "{plan}");
    let somewhere = with_aws(&source.url(), &aws).with("AWS_REGION", "");
    let plan = somewhere.pgkeep(&["monitor", "install", "--dry-run"]);
    assert!(plan.stdout.contains("region=us-east-1"), "{plan}");
    let alarms =
        || aws.cloudwatch("DescribeAlarms", &json!({}))["MetricAlarms"].as_array().cloned().unwrap_or_default();
    assert_eq!(alarms().len(), 1);

    let installed = setup.run("setup-backup-monitoring", &["--install", "--email", "ops@example.test"]);
    assert_eq!(installed.code, Some(0), "{installed}");
    let url = format!("https://console.aws.amazon.com/cloudwatch/home?region=eu-central-1#dashboards:name={stem}");
    assert!(installed.stdout.contains(&url) && installed.stdout.contains("5.50 USD a month"), "{installed}");
    let first = alarms();
    assert_eq!(first.len(), 5);
    let failure =
        first.iter().find(|alarm| alarm["AlarmName"] == format!("{stem}-backup-failure")).expect("the failure alarm");
    assert_eq!(
        (&failure["EvaluationPeriods"], &failure["DatapointsToAlarm"], &failure["TreatMissingData"]),
        (&json!(26), &json!(26), &json!("breaching"))
    );
    assert_eq!(failure["Metrics"][1]["Expression"], "FILL(m, 0)");
    assert_eq!(failure["Metrics"][0]["MetricStat"]["Period"], 3_600);
    assert_eq!(failure["Metrics"][0]["MetricStat"]["Metric"]["Namespace"], NAMESPACE);
    assert_eq!(failure["ComparisonOperator"], "LessThanThreshold");
    let body = aws.cloudwatch("GetDashboard", &json!({ "DashboardName": stem }))["DashboardBody"].clone();
    let body: Value = serde_json::from_str(body.as_str().expect("a dashboard")).expect("JSON");
    assert_eq!(pgkeep_metrics::dashboard_flaws(&body), Vec::<String>::new());
    assert_eq!(body["widgets"].as_array().and_then(|widgets| widgets.last()).expect("alarms")["type"], "alarm");

    // Again: nothing changes.
    let again = document(&setup.pgkeep(&["monitor", "install", "--output", "json"]));
    let topic = again["installed"]["topic_arn"].as_str().expect("a topic").to_owned();
    assert_eq!(again["installed"]["made_subscription"], "ops@example.test");
    assert_eq!(alarms().len(), 5);
    let mut topics = [other_topic.clone(), topic.clone()];
    topics.sort();
    assert_eq!(aws.topics(), topics);

    let shown = setup.pgkeep(&["monitor", "show"]);
    for words in ["SNS topic is told", "CloudWatch gets metrics", &topic, "email ops@example.test: confirmed", &url] {
        assert!(shown.stdout.contains(words), "no {words:?} in\n{shown}");
    }

    let subscriber = Receiver::start();
    aws.subscribe(&topic, &subscriber.url());
    let before = subscriber.requests().len();
    let tested = setup.run("setup-backup-monitoring", &["--test"]);
    assert_eq!(tested.code, Some(0), "{tested}");
    let message = subscriber.wait_for(before + 1).pop().expect("a message");
    assert!(message.body.contains("test message"), "{message:?}");
    assert_eq!(statistics(&aws, "MonitorTest", source.name()), Some((1, 1.0, 1.0)));
    let states: Vec<_> = alarms().iter().map(|alarm| alarm["StateValue"].clone()).collect();
    assert!(!states.contains(&json!("ALARM")), "it was set back: {states:?}");

    // A run that fails hears of the topic by what is remembered beside the backups.
    let setup = setup.with("NOTIFICATION_EMAIL", "ops@example.test");
    let before = subscriber.requests().len();
    let failing = setup.run("pgkeep", &["backup", "--engine", "nonsense"]);
    failing.failed_with(2, &["nonsense"]);
    let message = subscriber.wait_for(before + 1).pop().expect("a message");
    assert!(message.body.contains("failed"), "{message:?}");

    let removed = setup.run("setup-backup-monitoring", &["--remove"]);
    assert_eq!(removed.code, Some(0), "{removed}");
    assert_eq!(alarms().len(), 1, "{removed}");
    assert_eq!(aws.topics(), [other_topic]);
    assert!(setup.pgkeep(&["monitor", "remove"]).stdout.contains("nothing to remove"));
    setup.run("pgkeep", &["monitor", "test"]).failed_with(6, &["nothing to test"]);
}
