//! Store, manifest and garbage collection against a model in memory: random operations, with the power
//! cut at random moments.
//!
//! A seed decides operations and cuts. After each operation, and each time the node is opened again,
//! everything that was acknowledged must be there, with the right bytes, and nothing else promised; what
//! was collected must stay away, and the figures must be those of the files.

mod machine;
mod operation;
mod promises;
mod tree;

use machine::Machine;
use operation::operations;

/// Seeds that are always tried.
const SEEDS: std::ops::Range<u64> = 0..60;
/// Operations of each.
const LENGTH: usize = 40;
/// Other seeds to try: `from..to`.
const FURTHER: &str = "DUKA_MODEL_SEEDS";

#[test]
#[expect(clippy::print_stderr, reason = "what was covered, and what failed")]
fn random_operations_and_cuts_agree_with_the_model() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut cuts = 0;
    for seed in seeds() {
        let operations = operations(seed, LENGTH);
        let mut machine = runtime.block_on(Machine::new(seed));
        for (at, operation) in operations.iter().enumerate() {
            if let Err(wrong) = runtime.block_on(machine.run(operation)) {
                for (number, operation) in operations[..=at].iter().enumerate() {
                    eprintln!("{number:3} {operation:?}");
                }
                panic!("seed {seed}, operation {at}: {wrong:#}");
            }
        }
        cuts += machine.cuts();
        runtime.block_on(machine.close());
    }
    eprintln!("{cuts} cuts");
    assert!(cuts > 50, "only {cuts} cuts");
}

fn seeds() -> std::ops::Range<u64> {
    let Some(range) = std::env::var_os(FURTHER) else {
        return SEEDS;
    };
    let range = range.to_str().and_then(|range| range.split_once(".."));
    let (from, to) = range.expect("from..to");
    from.parse().unwrap()..to.parse().unwrap()
}
