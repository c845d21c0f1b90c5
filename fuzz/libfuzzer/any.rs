//! The target that `PGKEEP_FUZZ_TARGET` names, under libFuzzer.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use pgkeep_fuzz::Target;

fuzz_target!(|input: &[u8]| {
    static TARGET: OnceLock<&Target> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("PGKEEP_FUZZ_TARGET").expect("PGKEEP_FUZZ_TARGET names a target");
        Target::named(&name).expect("there is such a target")
    });
    (target.run)(input);
});
