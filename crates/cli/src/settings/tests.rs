use super::*;

fn surroundings(variables: &[(&str, &str)], directory: &Path) -> Surroundings {
    Surroundings {
        variables: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        directory: directory.to_owned(),
        uid: rustix::process::geteuid().as_raw(),
        host: "host".to_owned(),
        stdin_is_terminal: false,
        stdout_is_terminal: false,
        stderr_is_terminal: false,
        stderr_file: None,
    }
}

fn read(variables: &[(&str, &str)]) -> Result<Settings> {
    let directory = tempfile::tempdir().unwrap();
    Settings::read(Vec::new(), &GlobalArgs::default(), &surroundings(variables, directory.path()))
}

#[test]
fn a_bucket_has_the_prefix_and_is_required() {
    let settings = read(&[("AWS_S3_BACKUP_BUCKET", "b"), ("BACKUP_DIR", "/b")]).unwrap();
    assert_eq!(settings.remote.unwrap().url.as_str(), "s3://b/database-backups");
    assert!(!settings.local.unwrap().required);
}

#[test]
fn a_local_directory_alone_is_required() {
    let local = read(&[]).unwrap().local.unwrap();
    assert_eq!((local.path.to_str(), local.is_default, local.required), (Some(DEFAULT_BACKUP_DIR), true, true));
    assert_eq!(read(&[("BACKUP_DIR", "none")]).unwrap().local, None);
}

#[test]
fn a_store_url_has_its_own_path() {
    let url = |variables: &[(&str, &str)]| read(variables).unwrap().remote.unwrap().url.to_string();
    assert_eq!(url(&[("BACKUP_STORE", "gs://b/x/y/")]), "gs://b/x/y");
    assert_eq!(url(&[("BACKUP_STORE", "s3://b")]), "s3://b/database-backups");
    assert_eq!(url(&[("BACKUP_STORE", "s3://b/x"), ("BACKUP_PREFIX", "/p/")]), "s3://b/x/p");
    assert!(read(&[("BACKUP_STORE", "ftp://b")]).is_err());
    assert!(read(&[("BACKUP_STORE", "s3://b"), ("AWS_S3_BACKUP_BUCKET", "b")]).is_err());
}

#[test]
fn classes_and_encryption_are_for_aws() {
    assert!(read(&[("AWS_S3_BACKUP_BUCKET", "b")]).unwrap().on_aws());
    assert!(!read(&[("AWS_S3_BACKUP_BUCKET", "b"), ("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")]).unwrap().on_aws());
    let settings =
        read(&[("AWS_S3_BACKUP_BUCKET", "b"), ("AWS_ENDPOINT_URL_S3", "https://vpce.s3.eu-west-1.vpce.amazonaws.com")]);
    assert!(settings.unwrap().on_aws());
}

#[test]
fn errors_name_the_setting_and_its_origin_but_no_secret() {
    let failure = read(&[("BACKUP_JOBS", "many")]).unwrap_err();
    assert_eq!(failure.message, "BACKUP_JOBS: \"many\" is not a number from 1 to 256");
    let failure = read(&[("BACKUP_STORE", "s3cret")]).unwrap_err();
    assert!(!failure.message.contains("s3cret"), "{}", failure.message);
}

#[test]
fn the_files_are_read_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("pgkeep.toml", "jobs = 4\ncompression = 'lz4'\nbucket = 'toml'\n");
    write(".env", "BACKUP_JOBS=3\nAWS_S3_BACKUP_BUCKET=file\n");
    let surroundings = surroundings(&[("BACKUP_JOBS", "2")], directory.path());
    let settings = Settings::read(Vec::new(), &GlobalArgs::default(), &surroundings).unwrap();
    assert_eq!(settings.jobs, 2);
    assert_eq!(settings.remote.unwrap().url.host_str(), Some("file"));
    assert_eq!(settings.compression.unwrap().text, "lz4");
    assert_eq!(settings.layers.notices.len(), 2, "both files are named");
    let flags = vec![FlagValue(&variable::JOBS, "--jobs", "1".to_owned())];
    assert_eq!(Settings::read(flags, &GlobalArgs::default(), &surroundings).unwrap().jobs, 1);
}

#[test]
fn role_passwords_are_kept_where_nobody_reads_them() {
    let kept = |variables: &[(&str, &str)]| read(variables).unwrap().role_passwords;
    assert!(!kept(&[]));
    assert!(kept(&[("BACKUP_ENCRYPT_TO", "age1xyz")]));
    assert!(!kept(&[("BACKUP_ENCRYPT_TO", "none")]));
    assert!(!kept(&[("BACKUP_ENCRYPT_TO", "age1xyz"), ("BACKUP_ROLE_PASSWORDS", "false")]));
    assert!(kept(&[("BACKUP_ROLE_PASSWORDS", "true")]));
}

#[test]
fn another_destination_has_its_own_store_and_keys() {
    let directory = tempfile::tempdir().unwrap();
    let text = "bucket = 'near'\nstorage_class = 'STANDARD_IA'\n[[destination]]\nname = 'far'\nstore = 's3://far/copies'\n\
                required = false\naws.profile = 'other'\naws.endpoint_url = 'http://far:9000'\nretention.daily.days = 90\n";
    std::fs::write(directory.path().join("pgkeep.toml"), text).unwrap();
    let variables = [
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "s3cret"),
        ("AWS_ENDPOINT_URL_S3", "http://near:9000"),
        ("BACKUP_DIR", "/b"),
    ];
    let settings =
        Settings::read(Vec::new(), &GlobalArgs::default(), &surroundings(&variables, directory.path())).unwrap();
    assert_eq!(settings.remote.as_ref().unwrap().url.as_str(), "s3://near/database-backups");
    assert_eq!(settings.s3_endpoint().unwrap().text, "http://near:9000");
    let far = &settings.extra[0];
    assert!(!far.required && far.settings.extra.is_empty());
    assert_eq!(far.settings.remote.as_ref().unwrap().url.as_str(), "s3://far/copies");
    assert_eq!(far.settings.s3_endpoint().unwrap().text, "http://far:9000");
    assert_eq!(far.settings.layers.get(&variable::AWS_ACCESS_KEY_ID), None, "a profile's keys are its own");
    assert_eq!(
        far.settings.storage_classes,
        StorageClasses::All("STANDARD_IA".to_owned()),
        "what is set for all holds"
    );
    let days = |name: &str| settings.policy.destinations[name][&BackupClass::Daily].days;
    assert_eq!((days("far"), days("*")), (Some(90), Some(30)));
}

#[test]
fn a_place_that_is_set_for_several_databases_is_shared_out() {
    let directory = tempfile::tempdir().unwrap();
    let text =
        "[database.shop]\ndatabase_url = 'postgresql:///shop'\n[database.crm]\ndatabase_url = 'postgresql:///crm'\n";
    std::fs::write(directory.path().join("pgkeep.toml"), text).unwrap();
    let read = |variables: &[(&str, &str)]| {
        let globals = GlobalArgs { database: Some("crm".to_owned()), ..GlobalArgs::default() };
        Settings::read(Vec::new(), &globals, &surroundings(variables, directory.path()))
    };
    let settings = read(&[("BACKUP_DIR", "/b/"), ("AWS_S3_BACKUP_BUCKET", "b"), ("BACKUP_PREFIX", "p")]).unwrap();
    assert_eq!(settings.local.unwrap().path.to_str(), Some("/b/crm"));
    assert_eq!(settings.remote.unwrap().url.as_str(), "s3://b/p/crm");
    assert_eq!(read(&[("BACKUP_DIR", "none")]).unwrap().local, None);
    let failure = read(&[("DATABASE_URL", "postgresql://u:s3cret@h/d")]).unwrap_err();
    assert!(failure.message.contains("the same for every [[database]]"), "{}", failure.message);
    assert!(!format!("{failure:?}").contains("s3cret"));
}
