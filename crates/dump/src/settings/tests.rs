//! Connection strings as a table, and as properties.

use std::os::unix::fs::PermissionsExt;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;

use super::*;
use crate::ErrorKind;

fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn parse_with(conninfo: &str, pairs: &[(&str, &str)]) -> Result<ConnectSettings> {
    ConnectSettings::parse(conninfo, &environment(pairs), None)
}

fn parse(conninfo: &str) -> Result<ConnectSettings> {
    parse_with(conninfo, &[("USER", "os")])
}

fn password(settings: &ConnectSettings) -> Option<&str> {
    settings.hosts[0].password.as_ref().map(ExposeSecret::expose_secret)
}

/// `user[:password]@servers/database`, servers by label and `=address`.
fn summary(settings: &ConnectSettings) -> String {
    let hosts: Vec<_> = settings
        .hosts
        .iter()
        .map(|host| match &host.place {
            Place::Network { name: Some(_), address: Some(address) } => format!("{}={address}", host.label()),
            _ => host.label(),
        })
        .collect();
    let password = password(settings).map(|password| format!(":{password}")).unwrap_or_default();
    format!("{}{password}@{}/{}", settings.user, hosts.join(","), settings.database)
}

#[test]
fn what_connection_strings_mean() {
    let cases = [
        ("postgresql://ada:pw@db.example.org:5433/app", "ada:pw@db.example.org:5433/app"),
        ("postgres://ada@db/app", "ada@db:5432/app"),
        ("postgresql://db/app", "os@db:5432/app"),
        ("postgresql://ada@db", "ada@db:5432/ada"),
        ("postgresql://ada@db/", "ada@db:5432/ada"),
        ("postgresql://ada:p%40ss%2Fw%3Ard%25@db/app", "ada:p@ss/w:rd%@db:5432/app"),
        ("postgresql://ada:a:b:c@db/app", "ada:a:b:c@db:5432/app"),
        ("postgresql://ada:%E2%82%AC@db/d%C3%A9", "ada:€@db:5432/dé"),
        ("postgresql://a%40b@db/app", "a@b@db:5432/app"),
        ("postgresql://ada@h1:1,h2:2,h3/app", "ada@h1:1,h2:2,h3:5432/app"),
        ("postgresql://ada@h1,h2/app?port=7", "ada@h1:7,h2:7/app"),
        ("postgresql://ada@[2001:db8::1]:5433/app", "ada@[2001:db8::1]:5433/app"),
        ("postgresql://ada@[::1],127.0.0.1:2/app", "ada@[::1]:5432,127.0.0.1:2/app"),
        ("postgresql://ada@/app?host=/sock/dir", "ada@/sock/dir/.s.PGSQL.5432/app"),
        ("postgresql://ada@%2Fsock%2Fdir:7/app", "ada@/sock/dir/.s.PGSQL.7/app"),
        ("postgresql:///app?host=db&user=eve&password=p%26w&port=9", "eve:p&w@db:9/app"),
        ("postgresql://db?dbname=x", "os@db:5432/x"),
        ("postgresql://ada@db/app?hostaddr=10.0.0.7", "ada@db:5432=10.0.0.7/app"),
        ("postgresql://ada@db/app?&sslmode=disable&", "ada@db:5432/app"),
        ("postgresql://ada@db/first?dbname=second", "ada@db:5432/second"),
        ("host=db user=ada dbname=app password=pw port=5433", "ada:pw@db:5433/app"),
        ("host = db  user= 'a d a' password = 'it\\'s \\\\' dbname=x", "a d a:it's \\@db:5432/x"),
        ("host=db user=a\\ b dbname=''", "a b@db:5432/a b"),
        ("host=h1,h2 port=1,2 user=ada", "ada@h1:1,h2:2/ada"),
        ("host=h1,h2 port=,2 user=ada", "ada@h1:5432,h2:2/ada"),
        ("host=h1,h2 hostaddr=10.0.0.1,10.0.0.2 user=ada", "ada@h1:5432=10.0.0.1,h2:5432=10.0.0.2/ada"),
        ("hostaddr=fe80::1 user=ada", "ada@[fe80::1]:5432/ada"),
        ("host=/run/pg user=ada port=6000", "ada@/run/pg/.s.PGSQL.6000/ada"),
        ("host=a host=b user=ada", "ada@b:5432/ada"),
        ("\thost=db\nuser=ada\u{b}", "ada@db:5432/ada"),
    ];
    for (conninfo, expected) in cases {
        assert_eq!(
            summary(&parse(conninfo).unwrap_or_else(|error| panic!("{conninfo}: {error}"))),
            expected,
            "{conninfo}"
        );
    }
}

#[test]
fn what_is_refused_and_why() {
    let cases = [
        ("mysql://ada@db/app", "string", "another scheme"),
        ("postgresql+asyncpg://ada@db/app", "string", "another scheme"),
        ("jdbc:postgresql://db/app", "string", "another scheme"),
        ("just_a_name", "string", "neither a URL"),
        ("host=db user", "string", "neither a URL"),
        ("=x", "string", "without a parameter"),
        ("host='db", "host", "closing quote"),
        ("postgresql://ada@[::1/app", "host", "without its `]`"),
        ("postgresql://ada@[]/app", "host", "empty IPv6"),
        ("postgresql://ada@[::1]x/app", "host", "between `]`"),
        ("postgresql://ada@db:abc/app", "port", "1 to 65535"),
        ("postgresql://ada@db:0/app", "port", "1 to 65535"),
        ("postgresql://ada@db:70000/app", "port", "1 to 65535"),
        ("postgresql://ada:100%@db/app", "password", "%25"),
        ("postgresql://ada:%00@db/app", "password", "NUL"),
        ("postgresql://ada:%ff@db/app", "password", "UTF-8"),
        ("postgresql://ada@db/app?sslmode", "string", "without `=`"),
        ("postgresql://ada@db/app?options=-c%20a=b", "options", "%3D"),
        ("postgresql://ada@db/app?ssl=no-verify", "ssl", "sslmode"),
        ("host=a,b port=1,2,3", "port", "as many entries"),
        ("host=a,b hostaddr=10.0.0.1", "hostaddr", "as many entries"),
        ("host=a hostaddr=db.example.org", "hostaddr", "not an IP address"),
        ("host=@abstract", "host", "abstract"),
        ("host=db sslmode=verify", "sslmode", "one of disable, allow, prefer, require, verify-ca, verify-full"),
        ("host=db sslmode=verify-full", "sslmode", "sslrootcert"),
        ("host=db sslmode=verify-ca sslrootcert=/none/root.crt", "sslrootcert", "does not exist"),
        ("host=db sslmode=require sslrootcert=system", "sslmode", "verify-full"),
        ("host=db sslcert=/none/a.crt sslkey=/none/a.key", "sslcert", "does not exist"),
        ("host=db sslcert=/none/a.crt", "sslcert", "without sslkey"),
        ("host=db sslnegotiation=direct", "sslnegotiation", "sslmode=require"),
        ("host=db ssl_max_protocol_version=TLSv1.1", "ssl_max_protocol_version", "no version"),
        ("hostaddr=10.0.0.1 sslmode=verify-full sslrootcert=system", "host", "hostaddr"),
        ("host=db connect_timeout=soon", "connect_timeout", "whole number"),
        ("host=db target_session_attrs=master", "target_session_attrs", "read-write"),
        ("host=db channel_binding=yes", "channel_binding", "require"),
        ("host=db require_auth=md5,!password", "require_auth", "mixes"),
        ("host=db require_auth=kerberos", "require_auth", "scram-sha-256"),
        ("host=db gssencmode=require", "gssencmode", "GSSAPI"),
        ("host=db replication=database", "replication", "ordinary session"),
        ("host=db sslcrldir=/x", "sslcrldir", "sslcrl"),
        ("host=db sslpassword=x", "sslpassword", "encrypted private keys"),
        ("host=db requirepeer=postgres", "requirepeer", "not supported"),
        ("host=db min_protocol_version=3.2", "min_protocol_version", "3.0"),
        ("service=none_such", "service", "no service file"),
    ];
    for (conninfo, parameter, words) in cases {
        let error = parse(conninfo).expect_err(conninfo);
        assert_eq!(error.kind(), ErrorKind::Settings, "{conninfo}");
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("connection setting {parameter}: ")) && text.contains(words),
            "{conninfo}: {text}"
        );
    }
}

#[test]
fn unknown_parameters_are_refused_with_a_suggestion() {
    for (conninfo, expected) in [
        (
            "postgresql://ada@db/app?ssl_mode=require",
            "connection parameter ssl_mode is not known; did you mean sslmode?",
        ),
        ("host=db usr=ada", "connection parameter usr is not known; did you mean user?"),
        ("host=db qqqq=1", "connection parameter qqqq is not known"),
    ] {
        assert_eq!(parse(conninfo).unwrap_err().to_string(), expected);
    }
}

#[test]
fn harmless_parameters_and_those_of_orms_are_accepted() {
    let url = "postgresql://ada@db/app?schema=public&pgbouncer=true&connection_limit=5&pool_timeout=10&sslmode=disable\
               &gssencmode=prefer&keepalives=1&keepalives_idle=30&fallback_application_name=x&krbsrvname=y&client_encoding=LATIN1";
    let settings = parse(url).unwrap();
    assert_eq!(settings.ignored(), ["schema", "pgbouncer", "connection_limit", "pool_timeout"]);
    assert_eq!(settings.notices(), ["client_encoding has no effect: the database's own encoding is used"]);
    assert_eq!(settings.keepalive.unwrap().idle, Some(Duration::from_secs(30)));
    assert!(parse("host=db keepalives=0").unwrap().keepalive.is_none());
}

#[test]
fn string_before_service_before_variables_before_password_file() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join(".pg_service.conf"), "[prod]\nhost=svc\nport=6000\ndbname=svcdb\n").unwrap();
    let pgpass = home.path().join(".pgpass");
    std::fs::write(&pgpass, "svc:6000:app:ada:from file\nother:*:*:*:no\n").unwrap();
    std::fs::set_permissions(&pgpass, std::fs::Permissions::from_mode(0o600)).unwrap();
    let variables = environment(&[
        ("PGHOST", "envhost"),
        ("PGPORT", "7000"),
        ("PGUSER", "ada"),
        ("PGSERVICE", "prod"),
        ("PGAPPNAME", "me"),
    ]);
    let parse = |conninfo: &str, variables: &BTreeMap<String, String>| {
        ConnectSettings::parse(conninfo, variables, Some(home.path().to_owned())).unwrap()
    };

    let settings = parse("dbname=app", &variables);
    assert_eq!(summary(&settings), "ada:from file@svc:6000/app");
    assert_eq!(settings.application_name, "me");
    let mut with_password = variables.clone();
    with_password.insert("PGPASSWORD".to_owned(), "from env".to_owned());
    assert_eq!(summary(&parse("dbname=app", &with_password)), "ada:from env@svc:6000/app");
    assert_eq!(summary(&parse("postgresql://eve:own@mine/app", &with_password)), "eve:own@mine:6000/app");

    std::fs::set_permissions(&pgpass, std::fs::Permissions::from_mode(0o644)).unwrap();
    let settings = parse("dbname=app", &variables);
    assert_eq!(password(&settings), None);
    assert!(settings.notices()[0].contains("is not used: group or others have access"), "{:?}", settings.notices());
}

#[test]
fn variables_alone_are_enough_and_their_faults_are_called_by_their_names() {
    let settings =
        parse_with("", &[("PGHOST", "/sock"), ("PGUSER", "ada"), ("PGDATABASE", "app"), ("PGSSLMODE", "")]).unwrap();
    assert_eq!(summary(&settings), "ada@/sock/.s.PGSQL.5432/app");
    for (name, value) in
        [("PGSSLMODE", "x"), ("PGPORT", "x"), ("PGGSSENCMODE", "require"), ("PGREQUIREPEER", "postgres")]
    {
        let error = parse_with("host=db user=ada", &[(name, value)]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("connection setting {name}: ")), "{error}");
    }
    let error = parse_with("host=db", &[]).unwrap_err().to_string();
    assert_eq!(error, "connection setting user: is not given, neither there nor by PGUSER");
}

#[test]
fn sslmode_by_what_is_there() {
    let home = tempfile::tempdir().unwrap();
    let parse = |conninfo: &str| {
        ConnectSettings::parse(conninfo, &environment(&[("USER", "os")]), Some(home.path().to_owned())).unwrap().tls
    };
    assert_eq!((parse("host=db").mode, parse("host=db").roots), (SslMode::Prefer, Roots::None));
    assert_eq!(parse("host=db sslmode=require").mode, SslMode::Require);
    assert_eq!(parse("host=db requiressl=1").mode, SslMode::Require);
    assert_eq!(parse("postgresql://db?ssl=true").mode, SslMode::Require);
    let system = parse("host=db sslrootcert=system");
    assert_eq!((system.mode, system.roots), (SslMode::VerifyFull, Roots::System));

    let folder = home.path().join(".postgresql");
    std::fs::create_dir(&folder).unwrap();
    for name in ["root.crt", "root.crl", "postgresql.crt", "postgresql.key"] {
        std::fs::write(folder.join(name), "").unwrap();
    }
    let root = folder.join("root.crt");
    let tls = parse("host=db sslmode=require");
    assert_eq!((tls.mode, tls.roots), (SslMode::VerifyCa, Roots::File(root.clone())));
    assert_eq!(tls.certificate, Some((folder.join("postgresql.crt"), folder.join("postgresql.key"))));
    assert_eq!(tls.revoked, Some(folder.join("root.crl")));
    assert_eq!(parse("host=db sslmode=verify-full").roots, Roots::File(root));
    assert_eq!(parse("host=db sslcertmode=disable").certificate, None);
}

#[test]
fn timeouts() {
    let timeout = |text: &str| parse(&format!("host=db {text}")).unwrap().connect_timeout;
    assert_eq!(timeout(""), Some(DEFAULT_CONNECT_TIMEOUT));
    assert_eq!(timeout("connect_timeout=3"), Some(Duration::from_secs(3)));
    assert_eq!(timeout("connect_timeout=0"), None);
    assert_eq!(timeout("connect_timeout=-1"), None);
}

#[test]
fn required_methods() {
    let allows = |text: &str, method| {
        parse(&format!("host=db require_auth={text}")).unwrap().require_auth.unwrap().allows(method)
    };
    assert!(allows("scram-sha-256,md5", AuthMethod::Md5));
    assert!(!allows("scram-sha-256", AuthMethod::None));
    assert!(!allows("!password", AuthMethod::Password));
    assert!(allows("!password,!none", AuthMethod::Scram));
}

#[test]
fn children_get_everything_and_the_secret_only_in_a_private_file() {
    let private = tempfile::tempdir().unwrap();
    let url = "postgresql://ada:s%3Ae%5Ccret@db:5433/app?sslmode=require&options=-c%20work_mem%3D1MB&connect_timeout=7";
    let settings = parse(url).unwrap();
    let pinned = settings.pinned(&settings.hosts[0], Some("10.0.0.9".parse().unwrap()));
    // A second child must not trip over the file of the first.
    pinned.libpq_environment(SessionSettings::Dump, private.path()).unwrap();
    let variables = pinned.libpq_environment(SessionSettings::Load, private.path()).unwrap();
    let get = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    for (name, value) in [
        ("PGHOST", "db"),
        ("PGHOSTADDR", "10.0.0.9"),
        ("PGPORT", "5433"),
        ("PGUSER", "ada"),
        ("PGDATABASE", "app"),
        ("PGSSLMODE", "require"),
        ("PGCONNECT_TIMEOUT", "7"),
        ("PGTZ", "UTC"),
        ("PGDATESTYLE", "ISO"),
        ("PGAPPNAME", "pgkeep"),
        ("PGGSSENCMODE", "disable"),
        ("PGTARGETSESSIONATTRS", "any"),
    ] {
        assert_eq!(get(name), Some(value), "{name}");
    }
    assert_eq!(get("PGOPTIONS"), Some(format!("-c work_mem=1MB {}", SessionSettings::Load.options()).as_str()));
    assert!(variables.iter().all(|(_, value)| !value.contains("cret")), "{variables:?}");
    assert_eq!(get("PGPASSWORD"), None);

    let file = Path::new(get("PGPASSFILE").unwrap());
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_to_string(file).unwrap(), "*:5433:*:*:s\\:e\\\\cret\n");

    let broken = settings.with_password("two\nlines".into()).libpq_environment(SessionSettings::Dump, private.path());
    assert!(broken.unwrap_err().to_string().contains("line break"));
}

#[test]
fn what_is_changed_keeps_the_rest() {
    let settings = parse("postgresql://ada:pw@db/app").unwrap();
    assert_eq!(summary(&settings.with_database("other")), "ada:pw@db:5432/other");
    assert_eq!(summary(&settings.with_password("new".into())), "ada:new@db:5432/app");
    assert_eq!(summary(&settings.with_user("eve", None)), "eve@db:5432/app");
    assert_eq!(settings.to_string(), "postgresql://ada@db:5432/app");
}

#[test]
fn secrets_appear_nowhere() {
    let secret = "hunter2";
    let settings = parse(&format!("postgresql://ada:{secret}@db/app?options=-c%20app.key%3D{secret}")).unwrap();
    for text in [format!("{settings:?}"), format!("{settings:#?}"), settings.to_string(), settings.server()] {
        assert!(!text.contains(secret), "{text}");
    }
    // Passwords with characters that should have been encoded: pieces of them end up in other places.
    for raw in [
        "hunter2@part",
        "hunter2/part",
        "part/hunter2",
        "a/b?hunter2=c",
        "a?hunter2",
        "hunter2%zz",
        "a:hunter2/x",
        "12/hunter2?hunter2=3",
        "[hunter2",
        "a/?hunter2",
        "hunter2/@hunter2",
    ] {
        if let Err(error) = parse(&format!("postgresql://ada:{raw}@db/app")) {
            let text = format!("{error} {error:?}");
            assert!(!text.contains(secret), "{raw}: {text}");
        }
    }
    for conninfo in
        ["password='hunter2 host=db", "host=db password=a hunter2", "host=db port=hunter2", "host=db sslmode=hunter2"]
    {
        let text =
            parse(conninfo).map_or_else(|error| format!("{error} {error:?}"), |settings| format!("{settings:?}"));
        assert!(!text.contains(secret), "{conninfo}: {text}");
    }
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

proptest! {
    #[test]
    fn both_notations_come_back(
        user in "[^\0]{1,20}",
        secret in "[^\0]{1,30}",
        host in "[a-z][a-z0-9.-]{0,20}",
        port in 1u16..,
        database in "[^\0]{1,20}",
    ) {
        let url = format!("postgresql://{}:{}@{host}:{port}/{}", encode(&user), encode(&secret), encode(&database));
        let pairs = format!("host={host} port={port} user={} password={} dbname={}", quote(&user), quote(&secret), quote(&database));
        for conninfo in [url, pairs] {
            let settings = parse(&conninfo).unwrap();
            prop_assert_eq!(settings.user(), &user);
            prop_assert_eq!(password(&settings), Some(secret.as_str()));
            prop_assert_eq!(settings.database(), &database);
            prop_assert_eq!(settings.server(), format!("{host}:{port}"));
        }
    }

    #[test]
    fn any_text_is_survived(text in "\\PC{0,200}") {
        let _ = parse(&text);
        let _ = parse(&format!("postgresql://{text}"));
        let _ = parse(&format!("host={text}"));
    }

    #[test]
    fn no_error_repeats_a_password(prefix in "[!-~]{0,8}", suffix in "[!-~]{0,8}") {
        // Whatever stands around it, encoded or not.
        let secret = "S3CR3T";
        let conninfo = format!("postgresql://ada:{prefix}{secret}{suffix}@db.example.org:5432/app");
        if let Err(error) = parse(&conninfo) {
            prop_assert!(!format!("{error} {error:?}").contains(secret), "{}: {}", conninfo, error);
        }
    }
}
