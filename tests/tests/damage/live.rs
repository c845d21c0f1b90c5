//! A restore in place of the live database: damage leaves it as it was, by either way of replacing it.

use pgkeep_testkit::{contents, dump_text};

use crate::alteration::{Alteration, Object};
use crate::ground::{Ground, Kind};

#[test]
fn damage_never_reaches_the_live_database() {
    let ground = Ground::new("live", Kind { compression: "zstd:1", encrypted: false });
    let server = ground.source.server();
    // Since the backup, the live database has gone on.
    ground.source.psql("DELETE FROM orders WHERE id % 2 = 0; CREATE TABLE later (x int); INSERT INTO later VALUES (1)");
    let (live, text) = (contents(server, &ground.source), dump_text(server, &ground.source));
    for (object, alteration) in [
        (Object::Archive, Alteration::FlippedInTheMiddle),
        (Object::Archive, Alteration::CutByOneByte),
        (Object::Globals, Alteration::FlippedInTheMiddle),
        (Object::Meta, Alteration::FlippedInTheMiddle),
    ] {
        for how in [vec![], vec!["--in-place"]] {
            let repository = ground.copy();
            let (file, other) = repository.files(object);
            alteration.apply(&file, &other);
            let run = repository.pgkeep(&[&["restore", &ground.newest, "--yes"], &how[..]].concat());
            assert_eq!(run.code, Some(4), "{object} {alteration} {how:?}: {run}");
            assert!(run.says("hint:"), "{run}");
            assert_eq!(ground.source.relatives(), [ground.source.name()], "{object} {alteration} {how:?}");
            assert_eq!(contents(server, &ground.source), live, "{object} {alteration} {how:?}");
        }
    }
    assert_eq!(dump_text(server, &ground.source), text);
    // The newest that is good is what `--latest` takes, and it says what it passed over.
    let repository = ground.copy();
    let (file, other) = repository.files(Object::Archive);
    Alteration::CutByOneByte.apply(&file, &other);
    let target = ground.target();
    let run = repository.well(&["restore", "--latest", "--target-db", &target, "--yes"]);
    assert!(run.says(&format!("{} is newer, but no copy of it is good", ground.newest)), "{run}");
    assert!(ground.source.relatives().contains(&target));
}
