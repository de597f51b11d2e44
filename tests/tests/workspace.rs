//! Rules of the workspace: direction between crates, dependencies, files in the repository.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Crates from the top down; each may depend only on crates that come after it.
const DIRECTION: [&str; 7] = [
    "duka-fuzz",
    "duka-tests",
    "duka",
    "duka-gateway",
    "duka-commerce",
    "duka-node",
    "duka-config",
];

/// `CDLA-Permissive-2.0` is only for data: the root certificates. `NCSA` is that of libFuzzer, which only
/// fuzzing uses.
const LICENCES: [&str; 12] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "NCSA",
    "Unicode-3.0",
    "Zlib",
];

/// A file that is larger than this belongs outside the repository.
const LARGEST_FILE: u64 = 1_000_000;

#[test]
fn crates_depend_only_downwards() {
    let metadata = metadata();
    let rank: BTreeMap<&str, usize> = DIRECTION
        .iter()
        .enumerate()
        .map(|(rank, name)| (*name, rank))
        .collect();
    let members: BTreeSet<&str> = array(&metadata["workspace_members"])
        .map(|id| id.as_str().unwrap())
        .collect();
    let mut seen = BTreeSet::new();
    for package in array(&metadata["packages"]) {
        if !members.contains(text(&package["id"])) {
            continue;
        }
        let name = text(&package["name"]);
        seen.insert(name);
        let from = rank
            .get(name)
            .unwrap_or_else(|| panic!("{name} has no place in DIRECTION"));
        for dependency in array(&package["dependencies"]) {
            let Some(to) = rank.get(text(&dependency["name"])) else {
                continue;
            };
            assert!(from < to, "{name} depends on {}", text(&dependency["name"]));
        }
    }
    assert_eq!(
        seen,
        DIRECTION.into_iter().collect(),
        "crates of the workspace"
    );
}

#[test]
fn one_version_of_libp2p_and_cid_and_no_openssl() {
    let metadata = metadata();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in array(&metadata["packages"]) {
        versions
            .entry(text(&package["name"]))
            .or_default()
            .insert(text(&package["version"]));
    }
    for single in [
        "libp2p",
        "libp2p-identity",
        "libp2p-kad",
        "cid",
        "multihash",
        "sled",
    ] {
        let found = versions
            .get(single)
            .unwrap_or_else(|| panic!("{single} is not used"));
        assert_eq!(found.len(), 1, "{single}: {found:?}");
    }
    for banned in ["openssl", "openssl-sys", "native-tls"] {
        assert!(!versions.contains_key(banned), "{banned} is a dependency");
    }
}

#[test]
fn every_dependency_has_an_allowed_licence() {
    let metadata = metadata();
    let mut refused = Vec::new();
    for package in array(&metadata["packages"]) {
        let licence = package["license"].as_str().unwrap_or("none");
        if !allowed(licence) {
            refused.push(format!("{} {licence}", text(&package["name"])));
        }
    }
    assert!(
        refused.is_empty(),
        "licences that are not allowed: {refused:#?}"
    );
}

#[test]
fn licence_expressions_are_evaluated() {
    for good in [
        "MIT OR GPL-3.0",
        "MIT/Apache-2.0",
        "(MIT OR GPL-2.0) AND Unicode-3.0",
    ] {
        assert!(allowed(good), "{good}");
    }
    for bad in [
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "(MIT OR Apache-2.0) AND AGPL-3.0",
        "none",
    ] {
        assert!(!allowed(bad), "{bad}");
    }
}

#[test]
fn tracked_files_are_small_and_name_no_foreign_paths() {
    let root = root();
    // Put together here, so that this file does not name them.
    let foreign = [
        ["/wo", "rk/"].concat(),
        ["/ro", "ot/"].concat(),
        ["/ho", "me/"].concat(),
    ];
    let listed = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .current_dir(&root)
        .output()
        .expect("git runs");
    assert!(listed.status.success(), "git ls-files needs a git checkout");
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut faults = Vec::new();
    for name in listed.split_terminator('\0') {
        // Deleted or a link to nowhere in the working tree.
        let Ok(bytes) = std::fs::read(root.join(name)) else {
            continue;
        };
        if bytes.len() as u64 > LARGEST_FILE {
            faults.push(format!("{name} has {} bytes", bytes.len()));
        }
        let content = String::from_utf8_lossy(&bytes);
        for path in &foreign {
            if content.contains(path.as_str()) {
                faults.push(format!("{name} names {path}"));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Whether an SPDX expression is satisfied by the allowed licences alone.
fn allowed(expression: &str) -> bool {
    let expression = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let tokens: Vec<&str> = expression.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    any_of(&mut rest) && rest.is_empty()
}

/// `all_of (OR all_of)*`
fn any_of(rest: &mut &[&str]) -> bool {
    let mut result = all_of(rest);
    while let Some(("OR", tail)) = rest.split_first().map(|(head, tail)| (*head, tail)) {
        *rest = tail;
        result |= all_of(rest);
    }
    result
}

/// `single (AND single)*`
fn all_of(rest: &mut &[&str]) -> bool {
    let mut result = single(rest);
    while let Some(("AND", tail)) = rest.split_first().map(|(head, tail)| (*head, tail)) {
        *rest = tail;
        result &= single(rest);
    }
    result
}

/// `( any_of )`, or a licence with an exception or without.
fn single(rest: &mut &[&str]) -> bool {
    let Some((head, tail)) = rest.split_first() else {
        return false;
    };
    *rest = tail;
    if *head == "(" {
        let result = any_of(rest);
        let closed = rest.first() == Some(&")");
        *rest = rest.get(1..).unwrap_or_default();
        return result && closed;
    }
    if let ["WITH", exception, tail @ ..] = rest {
        let licence = format!("{head} WITH {exception}");
        *rest = tail;
        return LICENCES.contains(&licence.as_str());
    }
    LICENCES.contains(head)
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the workspace")
        .to_owned()
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("an array of cargo metadata").iter()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string of cargo metadata")
}
