//! Fuzzing: targets that take any bytes and panic when something is wrong.
//!
//! A target must neither panic nor use much time or memory, whatever it is given, and what it reads
//! must be what it would write. `./tests/fuzz` runs the targets guided by coverage; the test below
//! runs them over examples, over what fuzzing found once (`tests/fuzzing/found`), and over mutations of
//! these.

mod formats;
mod mend;
mod mutate;
mod requests;
mod stored;

pub use mutate::Mutator;

/// Something that reads bytes.
#[derive(Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Reads them; panics when something is wrong.
    pub run: fn(&[u8]),
    /// What duka itself writes.
    pub examples: fn() -> Vec<Vec<u8>>,
    /// Mutations that the test runs.
    pub mutations: u32,
}

/// All targets.
pub const TARGETS: [Target; 14] = [
    Target {
        name: "pack",
        run: stored::pack,
        examples: stored::packs,
        mutations: 1_000,
    },
    Target {
        name: "index",
        run: stored::index,
        examples: stored::indexes,
        mutations: 1_000,
    },
    Target {
        name: "journal",
        run: stored::journal,
        examples: stored::journals,
        mutations: 10_000,
    },
    Target {
        name: "car",
        run: formats::car,
        examples: formats::cars,
        mutations: 5_000,
    },
    Target {
        name: "bitswap",
        run: formats::bitswap,
        examples: formats::bitswap_messages,
        mutations: 50_000,
    },
    Target {
        name: "ipns",
        run: formats::ipns,
        examples: formats::ipns_records,
        mutations: 5_000,
    },
    Target {
        name: "dag-pb",
        run: formats::dag_pb,
        examples: formats::unixfs_nodes,
        mutations: 20_000,
    },
    Target {
        name: "hamt",
        run: formats::hamt,
        examples: formats::unixfs_nodes,
        mutations: 20_000,
    },
    Target {
        name: "unixfs",
        run: formats::unixfs,
        examples: formats::unixfs_nodes,
        mutations: 50_000,
    },
    Target {
        name: "denylist",
        run: formats::denylist,
        examples: formats::denylists,
        mutations: 5_000,
    },
    Target {
        name: "path",
        run: requests::path,
        examples: requests::paths,
        mutations: 20_000,
    },
    Target {
        name: "range",
        run: requests::range,
        examples: requests::ranges,
        mutations: 50_000,
    },
    Target {
        name: "accept",
        run: requests::accept,
        examples: requests::accepts,
        mutations: 20_000,
    },
    Target {
        name: "redirects",
        run: requests::redirects,
        examples: requests::redirect_files,
        mutations: 20_000,
    },
];

/// A target with a bug, which fuzzing must find.
pub const PLANTED: Target = Target {
    name: "planted",
    run: formats::planted,
    examples: formats::bitswap_messages,
    mutations: 200_000,
};

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    const ALL: &[Target] = &TARGETS;
    let mut all = ALL.iter().chain(std::iter::once(&PLANTED));
    all.find(|target| target.name == name)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::Path;

    use super::*;

    /// Decides the mutations.
    const SEED: u64 = 0x5eed_f022;

    #[test]
    fn no_bytes_are_too_much_for_a_target() {
        for target in &TARGETS {
            let mut examples = (target.examples)();
            examples.extend(found(target.name));
            examples.iter().for_each(|example| (target.run)(example));
            let mut mutator = Mutator::new(SEED, examples);
            for number in 0..target.mutations {
                let bytes = mutator.mutation();
                let run = catch_unwind(AssertUnwindSafe(|| (target.run)(&bytes)));
                let hex = hex::encode(&bytes);
                assert!(run.is_ok(), "{}, mutation {number}: {hex}", target.name);
            }
        }
    }

    #[test]
    fn a_planted_bug_is_found() {
        let mut mutator = Mutator::new(SEED, (PLANTED.examples)());
        let is_found = |bytes: &[u8]| catch_unwind(|| (PLANTED.run)(bytes)).is_err();
        let found = (0..PLANTED.mutations).find(|_| is_found(&mutator.mutation()));
        assert!(found.is_some(), "not in {} mutations", PLANTED.mutations);
    }

    /// What fuzzing found once, or came upon on new ways.
    fn found(name: &str) -> Vec<Vec<u8>> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzzing/found");
        let Ok(entries) = std::fs::read_dir(dir.join(name)) else {
            return Vec::new();
        };
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
            .iter()
            .map(|path| std::fs::read(path).unwrap())
            .collect()
    }
}
