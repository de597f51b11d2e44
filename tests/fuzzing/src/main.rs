//! Runs the target that `$DUKA_FUZZ_TARGET` names under libFuzzer, whose options are the arguments.
//! Writes the target's examples to `$DUKA_FUZZ_EXAMPLES` first. `tests/fuzz` starts it.
#![no_main]

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;

use duka_tests::fuzz::{Target, target};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<&Target> = OnceLock::new();

fuzz_target!(
    init: {
        let target = TARGET.get_or_init(chosen);
        let dir = PathBuf::from(variable("DUKA_FUZZ_EXAMPLES"));
        for (number, example) in (target.examples)().into_iter().enumerate() {
            let path = dir.join(format!("example-{number}"));
            std::fs::write(path, example).expect("an example");
        }
    },
    |bytes: &[u8]| (TARGET.get_or_init(chosen).run)(bytes)
);

fn chosen() -> &'static Target {
    let name = variable("DUKA_FUZZ_TARGET");
    let target = name.to_str().and_then(target);
    target.unwrap_or_else(|| panic!("{} is no target", name.display()))
}

fn variable(name: &str) -> OsString {
    std::env::var_os(name).unwrap_or_else(|| panic!("${name} is not set"))
}
