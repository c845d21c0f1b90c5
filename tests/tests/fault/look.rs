//! What only looks: `check`, `verify`, `status`, `list`. It changes nothing, whatever goes wrong.

use crate::backup::acts;
use crate::ground::{Ground, everything};
use crate::relay::{Act, Whose};
use crate::table::suffices;

fn sweep(arguments: &[&str], stride: usize, codes: &[i32]) -> usize {
    let ground = Ground::with_a_backup("fault_looks");
    let before = (ground.look(), ground.databases(), ground.repository());
    let (mut points, stride) = (0, if everything() { 1 } else { stride });
    for nth in (1..).step_by(stride) {
        let mut reached = false;
        for act in acts(nth / stride) {
            let came = ground.run_with(arguments, Whose::Ours, nth, act);
            let struck = ground.relay.struck();
            reached |= struck.is_some();
            points += usize::from(struck.is_some());
            let what = format!("{arguments:?}, {nth}, {act:?}: {}", struck.as_deref().unwrap_or("nothing"));
            let code = came.run.code.unwrap_or_else(|| panic!("{what}: {:?}\n{came}", came.signal));
            assert!(codes.contains(&code) || (act == Act::Stall && code == 143), "{what}\n{came}");
            assert_eq!(
                (ground.look(), ground.databases(), ground.repository()),
                before,
                "{what}: it changed something"
            );
            ground.nothing_lingers(&what);
        }
        if !reached {
            break;
        }
    }
    points
}

#[test]
fn any_statement_of_a_check() {
    suffices("look::any_statement_of_a_check", sweep(&["check", "--restore"], 3, &[0, 2, 5]));
}

#[test]
fn any_statement_of_status() {
    suffices("look::any_statement_of_status", sweep(&["status"], 2, &[0, 5, 10]));
}

#[test]
fn a_backup_is_verified_and_listed_without_its_server() {
    let ground = Ground::with_a_backup("fault_verified");
    for arguments in [&["verify", "--latest", "--deep"][..], &["list"], &["show", "--latest"], &["prune", "--dry-run"]]
    {
        let came = ground.run_with(arguments, Whose::Ours, 1, Act::Down);
        assert_eq!(came.run.code, Some(0), "{arguments:?}\n{came}");
        assert_eq!(ground.relay.struck(), None, "{arguments:?} asks the server");
    }
}
