//! `schedule install` and `remove` are killed: a crontab is somebody's, and half a crontab is none.

use pgkeep_testkit::SchedulerHost;

use crate::found::report;

const FOREIGN: &str = "# somebody's own\nMAILTO=\"\"\n17 4 * * 1  /bin/true\n";

/// Kills a command at 12 moments of its run, which are spread over it, and says after each of them what `state` prints, one
/// base64 line each. Before each, `reset` is run. Every other time the command's children are killed with it.
fn killed(host: &SchedulerHost, reset: &str, command: &str, state: &str) -> Vec<String> {
    let script = format!(
        "reset() {{ {reset}\n}}
        state() {{ {state}\n}}
        reset; begun=$(date +%s%N); {command} >/tmp/said 2>&1 || {{ cat /tmp/said >&2; exit 1; }}; ended=$(date +%s%N)
        for n in 1 3 5 7 9 11 13 15 17 19 21 23; do
            reset
            {command} >/dev/null 2>&1 &
            victim=$!
            sleep \"$(echo \"$begun $ended $n\" | awk '{{ printf \"%.4f\", ($2 - $1) * $3 / 24 / 1e9 }}')\"
            case $n in 1|5|9|13|17|21) kill -9 $victim 2>/dev/null ;; *)
                kill -STOP $victim 2>/dev/null
                for stat in /proc/[0-9]*/stat; do
                    awk -v of=$victim '{{ sub(/.*\\) /, \"\"); split($0, field, \" \"); exit field[2] != of }}' $stat 2>/dev/null \
                        && kill -9 $(echo $stat | cut -d/ -f3)
                done
                kill -9 $victim 2>/dev/null ;;
            esac
            wait $victim 2>/dev/null
            # A crontab program that was left alone ends by itself.
            while pgrep -x crontab >/dev/null; do sleep 0.01; done
            state | base64 -w0; echo
        done"
    );
    let found: Vec<String> = host.run(&script).lines().map(str::to_owned).collect();
    assert_eq!(found.len(), 12, "{found:?}");
    found
}

fn encoded(host: &SchedulerHost, text_of: &str) -> String {
    host.run(&format!("({text_of}) | base64 -w0"))
}

#[test]
fn a_crontab_and_units_are_the_old_or_the_new_ones_whenever_their_writer_is_killed() {
    let host = SchedulerHost::start("Etc/UTC");
    host.run("mkdir -p /etc/pgkeep /tmp/units");
    host.write("/etc/pgkeep/env", b"DATABASE_URL=postgresql://127.0.0.1/shop\n");
    host.write("/root/foreign", FOREIGN.as_bytes());
    let list = "crontab -l 2>/dev/null || true";
    let install = "pgkeep schedule install --env-file /etc/pgkeep/env";
    let remove = "pgkeep schedule remove";

    host.run("crontab /root/foreign");
    let old = encoded(&host, list);
    host.run(install);
    let new = encoded(&host, list);
    assert_ne!(old, new);
    host.run("crontab -l >/root/installed");
    for (reset, command) in [("crontab /root/foreign", install), ("crontab /root/installed", remove)] {
        let found = killed(&host, reset, command, list);
        assert!(found.iter().all(|text| *text == old || *text == new), "{command}: {found:?}");
    }
    a_slow_crontab_gets_all_of_a_long_one(&host, install);
    for (command, expected) in [(install, &new), (remove, &old)] {
        host.run(&format!("{command} >/dev/null"));
        assert_eq!(encoded(&host, list), *expected, "the next run");
    }
    report(
        "`schedule install`, `remove`: crontab",
        [
            "spread over a run of each; and while `crontab` has not read it all yet",
            "25",
            "the crontab is the old or the new one, byte for byte",
            "installs, or removes, as if nothing had been",
        ],
    );

    // Units in the folder where `remove` looks for them. None is half of one.
    let folder = "/etc/systemd/system";
    let units = |times: &str| format!("{install} --unit-dir {folder} --daily '{times}'");
    let sums = format!("cd {folder} && sha256sum pgkeep-*.service pgkeep-*.timer 2>/dev/null || true");
    host.run(&units("0 3 * * *"));
    let old = host.run(&sums);
    host.run(&units("30 4 * * *"));
    let new = host.run(&sums);
    assert_ne!(old, new);
    let reset = format!("{} >/dev/null", units("0 3 * * *"));
    for command in [units("30 4 * * *"), remove.to_owned()] {
        for found in killed(&host, &reset, &command, &sums) {
            let found = host.run(&format!("echo {found} | base64 -d"));
            assert!(found.lines().all(|line| old.contains(line) || new.contains(line)), "{command}: {found}");
        }
    }
    host.run(&units("30 4 * * *"));
    assert_eq!(host.run(&sums), new, "the next run");
    host.run(remove);
    assert_eq!(host.run(&format!("ls -A {folder} | grep pgkeep || true")), "", "nothing is left");
    report(
        "`schedule install`, `remove`: systemd's units",
        [
            "spread over a run of each",
            "24",
            "each unit is the old or the new one, or not there",
            "installs, or removes, all of them; temporary files go too",
        ],
    );
}

/// As long as no pipe holds, and read by a program that takes its time: what it gets is not cut off where its writer died.
fn a_slow_crontab_gets_all_of_a_long_one(host: &SchedulerHost, install: &str) {
    host.run(
        "seq -f '# line %.0f of what somebody keeps here' 1 5000 >/root/long && crontab /root/long
        mkdir -p /opt/slow
        printf '%s\\n' '#!/bin/sh' 'case $* in -) echo $$ >/tmp/slow; sleep 1 ;; esac' 'exec /usr/bin/crontab \"$@\"' >/opt/slow/crontab
        chmod +x /opt/slow/crontab",
    );
    host.run(&format!(
        "rm -f /tmp/slow; PATH=/opt/slow:$PATH {install} >/dev/null 2>&1 & victim=$!
        while [ ! -s /tmp/slow ]; do sleep 0.01; done; kill -9 $victim
        while kill -0 $(cat /tmp/slow) 2>/dev/null; do sleep 0.01; done"
    ));
    let found = host.run("crontab -l");
    let (foreign, block) = found.split_once("# >>> pgkeep").expect("the new one was on its way");
    assert_eq!(foreign, host.run("cat /root/long"));
    assert!(block.trim_end().ends_with("# <<< pgkeep schedule <<<"), "{block}");
    host.run("crontab /root/foreign");
}
