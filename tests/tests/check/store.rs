//! What `check` finds on the side of the places for backups.

use pgkeep_testkit::{Ceph, PostgresServer};

use crate::world::{Document, World};

fn database() -> String {
    PostgresServer::shared(17).url("postgres")
}

fn deny(bucket: &str, action: &str) {
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Deny","Principal":"*","Action":["{action}"],"Resource":["arn:aws:s3:::{bucket}","arn:aws:s3:::{bucket}/*"]}}]}}"#
    );
    Ceph::shared().s3("PUT", &format!("/{bucket}?policy="), &policy);
}

fn allow_all(bucket: &str) {
    Ceph::shared().s3("DELETE", &format!("/{bucket}?policy="), "");
}

#[test]
fn a_bucket_where_all_is_well_stays_as_it_was() {
    let bucket = Ceph::shared().create_bucket("check");
    let world = World::of(&database()).with_bucket(&bucket).with("BACKUP_STORAGE_CLASS_DAILY", "STANDARD_IA");
    let (code, document) = world.check(&["--restore"]);
    assert_eq!(code, 0, "{:#}", document.0);
    for name in [
        "list",
        "versioning",
        "lifecycle rules",
        "put",
        "multipart",
        "multipart abort",
        "multipart list",
        "storage class",
        "store's clock",
    ] {
        assert_eq!(document.state(name), "pass", "{name} in {:#}", document.0);
    }
    assert!(document.findings("create if absent").iter().all(|(state, ..)| state == "pass"));
    assert!(document.findings("delete").iter().all(|(state, ..)| state == "pass"));
    assert_eq!(Ceph::shared().keys(&bucket), [""; 0]);
    assert_eq!(Ceph::shared().unfinished_uploads(&bucket), [""; 0]);
    assert!(!document.0.to_string().contains(Ceph::shared().secret_key()));
}

#[test]
fn a_dry_run_only_reads() {
    let bucket = Ceph::shared().create_bucket("checkdry");
    deny(&bucket, "s3:PutObject");
    let world = World::of(&database()).with_bucket(&bucket);
    let (code, document) = world.check(&["--dry-run", "--restore"]);
    assert_eq!(code, 0, "{:#}", document.0);
    assert_eq!(document.0["dry_run"], true);
    assert!(document.findings("write").iter().all(|(state, ..)| state == "skip"));
    assert_eq!(document.state("create a database"), "skip");
    assert_eq!(world.names(), [""; 0]);
    allow_all(&bucket);
}

/// What is denied, the check that fails by it, and the permission it names.
#[test]
fn each_missing_permission_is_named() {
    let bucket = Ceph::shared().create_bucket("checkdeny");
    let world = World::of(&database()).with_bucket(&bucket);
    for (action, check, named) in [
        ("s3:ListBucket", "list", "s3:ListBucket on arn:aws:s3:::"),
        ("s3:PutObject", "put", "s3:PutObject on arn:aws:s3:::"),
        ("s3:GetObject", "put", "s3:GetObject on arn:aws:s3:::"),
        ("s3:AbortMultipartUpload", "multipart abort", "s3:AbortMultipartUpload on"),
        ("s3:DeleteObject", "delete", "s3:DeleteObject on"),
    ] {
        deny(&bucket, action);
        let (code, document) = world.check(&[]);
        allow_all(&bucket);
        assert_eq!(code, 6, "{action}: {:#}", document.0);
        let found = document.findings(check);
        let failed = found.iter().find(|(state, ..)| state == "fail");
        let (_, _, missing) = failed.unwrap_or_else(|| panic!("{action}: {:#}", document.0));
        assert!(missing.starts_with(named), "{action}: {missing}");
        assert!(missing.contains(&bucket), "{action}: {missing}");
        remove_everything(&bucket);
    }
    deny(&bucket, "s3:ListBucketMultipartUploads");
    let (code, document) = world.check(&[]);
    allow_all(&bucket);
    assert_eq!(code, 0, "sweeping is a comfort: {:#}", document.0);
    assert!(document.finding("multipart list").2.starts_with("s3:ListBucketMultipartUploads on"), "{:#}", document.0);
    deny(&bucket, "s3:GetBucketVersioning");
    let (code, document) = world.check(&[]);
    allow_all(&bucket);
    assert_eq!(code, 0, "{:#}", document.0);
    let (state, message, missing) = document.finding("versioning");
    assert_eq!(state, "skip");
    assert!(message.starts_with("could not look") && missing.starts_with("s3:GetBucketVersioning on"), "{missing}");
}

fn remove_everything(bucket: &str) {
    for key in Ceph::shared().keys(bucket) {
        Ceph::shared().s3("DELETE", &format!("/{bucket}/{key}"), "");
    }
}

#[test]
fn a_writer_that_may_not_delete_is_told_what_stays() {
    let bucket = Ceph::shared().create_bucket("checkkeep");
    let world = World::of(&database()).with_bucket(&bucket).with("BACKUP_PRUNE", "false");
    deny(&bucket, "s3:DeleteObject");
    let (code, document) = world.check(&[]);
    allow_all(&bucket);
    assert_eq!(code, 0, "{:#}", document.0);
    let warned = document.findings("delete").into_iter().find(|(state, ..)| state == "warn").unwrap();
    assert!(warned.1.contains("stays behind"), "{warned:?}");
}

/// One rule, and what S3 wants to have beside it.
const RULES: &str = "<LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Rule><ID>sweep</ID><Filter><Prefix>database-backups/daily/</Prefix></Filter><Status>Enabled</Status><Expiration><Days>14</Days></Expiration></Rule></LifecycleConfiguration>";
const RULES_MD5: &str = "+ZgvJQhoLOcinX3QXPtavw==";

/// A signed request with a header of its own.
fn put(path_and_query: &str, header: &str, body: &str) {
    let ceph = Ceph::shared();
    let signature = format!("aws:amz:{}:s3", ceph.region());
    let user = format!("{}:{}", ceph.access_key(), ceph.secret_key());
    let url = format!("http://127.0.0.1:8000{path_and_query}");
    let mut curl =
        vec!["curl", "--silent", "--fail-with-body", "--request", "PUT", "--aws-sigv4", &signature, "--user", &user];
    curl.extend_from_slice(&["--header", header, &url]);
    if !body.is_empty() {
        curl.extend_from_slice(&["--data-binary", body]);
    }
    let output = ceph.exec(&curl);
    assert!(output.status.success(), "{path_and_query}: {}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_versioned_bucket_with_rules_is_warned_of_and_left_clean() {
    let ceph = Ceph::shared();
    let bucket = ceph.create_bucket("checkversions");
    ceph.s3(
        "PUT",
        &format!("/{bucket}?versioning="),
        "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>Enabled</Status></VersioningConfiguration>",
    );
    put(&format!("/{bucket}?lifecycle="), &format!("Content-MD5: {RULES_MD5}"), RULES);
    let (code, document) = World::of(&database()).with_bucket(&bucket).check(&[]);
    assert_eq!(code, 0, "{:#}", document.0);
    assert_eq!(document.state("versioning"), "warn");
    let (state, message, _) = document.finding("lifecycle rules");
    assert_eq!(state, "warn");
    assert!(message.contains("rule sweep deletes") && message.contains("after 14 days"), "{message}");
    let versions = ceph.s3("GET", &format!("/{bucket}?versions="), "");
    assert!(!versions.contains("<Key>"), "neither versions nor marks stay: {versions}");
}

#[test]
fn object_lock_is_warned_of() {
    let bucket = pgkeep_testkit::unique("checklock").replace('_', "-");
    put(&format!("/{bucket}"), "x-amz-bucket-object-lock-enabled: true", "");
    let (_, document) = World::of(&database()).with_bucket(&bucket).check(&["--dry-run"]);
    assert_eq!(document.state("Object Lock"), "warn", "{:#}", document.0);
    assert_eq!(document.state("versioning"), "warn");
}

fn code_of(world: &World) -> (i32, Document) {
    world.check(&[])
}

#[test]
fn a_bucket_that_is_not_there_and_keys_that_are_wrong() {
    let bucket = pgkeep_testkit::unique("missing").replace('_', "-");
    let (code, document) = code_of(&World::of(&database()).with_bucket(&bucket));
    assert_eq!((code, document.0["error"]["code"].as_str()), (6, Some("bucket_missing")), "{:#}", document.0);

    let bucket = Ceph::shared().create_bucket("checkkeys");
    let wrong = World::of(&database()).with_bucket(&bucket).with("AWS_SECRET_ACCESS_KEY", "not-the-key");
    let (code, document) = code_of(&wrong);
    assert_eq!((code, document.0["error"]["code"].as_str()), (6, Some("store_refused")), "{:#}", document.0);
    assert_eq!(document.state("credentials"), "fail");

    let closed = World::of(&database()).with_bucket(&bucket).with("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    let (code, document) = code_of(&closed);
    assert_eq!((code, document.0["error"]["code"].as_str()), (6, Some("store_unreachable")), "{:#}", document.0);
}

#[test]
fn encryption_that_the_server_does_not_do_is_told_from_writing() {
    let bucket = Ceph::shared().create_bucket("checksse");
    let world = World::of(&database()).with_bucket(&bucket).with("BACKUP_SSE", "AES256");
    let (code, document) = world.check(&[]);
    assert_eq!(code, 6, "{:#}", document.0);
    assert_eq!(document.state("put"), "pass");
    assert_eq!(document.state("encryption"), "fail");
    let kms =
        World::of(&database()).with_bucket(&bucket).with("BACKUP_SSE", "aws:kms").with("BACKUP_KMS_KEY_ID", "testkey");
    let (code, document) = kms.check(&[]);
    assert_eq!(code, 0, "{:#}", document.0);
    assert_eq!(document.state("encryption"), "pass");
    let unknown = kms.with("BACKUP_KMS_KEY_ID", "nosuchkey");
    let (code, document) = unknown.check(&[]);
    assert_eq!(code, 6, "{:#}", document.0);
    assert_eq!(document.finding("encryption").2, "kms:GenerateDataKey and kms:Decrypt on KMS key nosuchkey");
    assert_eq!(Ceph::shared().keys(&bucket), [""; 0]);
}

#[test]
fn a_directory_that_cannot_be_written() {
    // Not even root can.
    let world = World::of(&database()).with("BACKUP_DIR", "/proc/sys/kernel");
    let (code, document) = world.check(&[]);
    assert_eq!(code, 6, "{:#}", document.0);
    assert_eq!(document.0["error"]["code"], "permission_denied");
    let world = World::of(&database());
    world.write("file", "");
    let (code, document) = world.with("BACKUP_DIR", "file/backups").check(&[]);
    assert_eq!(code, 6, "{:#}", document.0);
    assert_eq!(document.state("directory"), "fail");
}

#[test]
fn a_directory_that_others_can_write_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::of(&database());
    std::fs::create_dir(world.path("backups")).unwrap();
    std::fs::set_permissions(world.path("backups"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let (code, document) = world.check(&[]);
    assert_eq!(code, 0, "{:#}", document.0);
    assert_eq!(document.state("mode"), "warn");
    assert_eq!(std::fs::read_dir(world.path("backups")).unwrap().count(), 0, "nothing stays behind");
}
