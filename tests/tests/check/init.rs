//! `init` by flags and by answers on a real terminal; `check` takes what it writes.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use pgkeep_testkit::{PostgresServer, program};

use crate::world::World;

fn mode(world: &World, name: &str) -> u32 {
    std::fs::metadata(world.path(name)).unwrap().permissions().mode() & 0o777
}

#[test]
fn by_flags() {
    let source = PostgresServer::shared(17).create_database("init");
    let world = World::new().without("BACKUP_DIR");
    let url = source.url();
    let backups = world.path("kept").display().to_string();
    let gave = world.pgkeep(&[
        "init",
        "--database-url",
        &url,
        "--store",
        "none",
        "--dir",
        &backups,
        "--email",
        "ops@example.org",
    ]);
    assert_eq!(gave.code, Some(0), "{gave}");
    assert_eq!(mode(&world, "pgkeep.toml"), 0o600);
    for next in ["pgkeep check", "pgkeep backup", "pgkeep schedule install"] {
        assert!(gave.stdout.contains(next), "{gave}");
    }
    assert!(!format!("{}{}", gave.stdout, gave.stderr).contains("s3cr3t"), "{gave}");
    let (code, document) = world.check(&[]);
    assert_eq!(code, 0, "{:#}", document.0);
    assert_eq!(world.pgkeep(&["backup"]).code, Some(0));
    assert!(world.path("kept").is_dir());

    let before = std::fs::read_to_string(world.path("pgkeep.toml")).unwrap();
    let again = world.pgkeep(&["init", "--database-url", "postgresql://other@h/d", "--dir", "x"]);
    assert_eq!(again.code, Some(2), "{again}");
    assert_eq!(std::fs::read_to_string(world.path("pgkeep.toml")).unwrap(), before, "never overwritten");
    let forced = world.pgkeep(&["init", "--database-url", "postgresql://other@h/d", "--dir", "x", "--force"]);
    assert_eq!(forced.code, Some(0), "{forced}");
    let aside = world.names().into_iter().find(|name| name.starts_with("pgkeep.toml.before-")).unwrap();
    assert_eq!(std::fs::read_to_string(world.path(&aside)).unwrap(), before);
}

/// Answers each question when it has been asked, on a terminal of its own.
fn converse(world: &World, arguments: &str, answers: &[(&str, &str)]) -> (i32, String) {
    let line = format!("stty rows 40 cols 200; exec {} {arguments}", program("pgkeep").display());
    let mut child = world
        .command("script")
        .args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("script (of bsdutils) can be run");
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    for (question, answer) in answers {
        let begin = said.len();
        while !String::from_utf8_lossy(&said[begin..]).contains(question) {
            let read = stdout.read(&mut piece).unwrap();
            assert!(read > 0, "{question} was not asked: {}", String::from_utf8_lossy(&said));
            said.extend_from_slice(&piece[..read]);
        }
        writeln!(stdin, "{answer}").unwrap();
        stdin.flush().unwrap();
    }
    let _ = stdout.read_to_end(&mut said);
    let code = child.wait().unwrap().code().unwrap();
    (code, String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn by_answers_on_a_terminal() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("init_asked");
    let world = World::new().without("BACKUP_DIR").with("TERM", "dumb");
    let url = format!("postgresql://postgres@127.0.0.1:{}/{}", server.port(), source.name());
    let backups = world.path("kept").display().to_string();
    let (code, said) = converse(
        &world,
        "init",
        &[
            ("The database", "mysql://nonsense"),
            ("The database", &url),
            ("password", server.password()),
            ("Where do backups go", "My Bucket"),
            ("Where do backups go", ""),
            ("local directory", &backups),
            ("Who hears", "ops@example.org"),
        ],
    );
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains(server.password()), "what is typed as a password is not shown: {said}");
    assert_eq!(mode(&world, "pgkeep.toml"), 0o600);
    let text = std::fs::read_to_string(world.path("pgkeep.toml")).unwrap();
    assert!(text.contains("notification_email = \"ops@example.org\""), "{text}");
    let (code, document) = world.check(&[]);
    assert_eq!(code, 0, "{:#}", document.0);
    let shown = world.pgkeep(&["check", "--show-settings"]);
    assert_eq!(shown.code, Some(0), "{shown}");
    assert!(shown.stdout.contains("database_url in"), "{shown}");
    assert!(!shown.stdout.contains("s3cr3t"), "{shown}");
}
