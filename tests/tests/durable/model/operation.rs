//! What can be done to a node.

use duka_tests::random::Random;

use super::tree::Tree;

/// An operation. Numbers that choose something are taken modulo how many there are.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// Stores a tree that nothing refers to.
    Add(Tree),
    /// Pins a tree that was stored once, and may be gone.
    Pin {
        which: usize,
        recursive: bool,
        name: Option<String>,
    },
    /// Stores and pins a tree.
    AddPinned(Tree),
    /// Removes a pin.
    Unpin(usize),
    /// Makes a release.
    Publish { product: u64, tree: Tree },
    /// Yanks a release.
    Yank(usize),
    /// Stores a tree under a temp pin, which holds its root or not.
    Begin { tree: Tree, hold: bool },
    /// Holds a pinned tree with a temp pin, and removes the pin.
    Hold(usize),
    /// Ends a temp pin.
    End(usize),
    /// Stores a tree in the cache.
    Cache(Tree),
    /// Evicts from the cache what is too much.
    Evict,
    /// Seals the newest kept pack.
    Seal,
    /// Collects garbage.
    Collect { seal: bool },
    /// Collects until everything is gone that should be, and again without temp pins.
    CollectAll,
    /// Checks every byte, and repairs.
    Check { repair: bool },
    /// Stops and opens again.
    Reopen,
    /// Cuts the power after so many more operations of the disk, and after so many of the opening that
    /// follows.
    Cut { after: u64, again: Option<u64> },
}

/// The operations of a seed.
pub(crate) fn operations(seed: u64, length: usize) -> Vec<Operation> {
    let mut random = Random(seed);
    let mut all: Vec<_> = (0..length).map(|_| operation(&mut random)).collect();
    all.push(Operation::CollectAll);
    all
}

fn operation(random: &mut Random) -> Operation {
    let tree = Tree::random(random);
    let which = usize::try_from(random.below(1 << 16)).unwrap_or(0);
    match random.below(40) {
        0..4 => Operation::Add(tree),
        4..7 => Operation::Pin {
            which,
            recursive: random.below(3) > 0,
            name: random.coin().then(|| format!("name {}", which % 5)),
        },
        7..10 => Operation::AddPinned(tree),
        10..14 => Operation::Unpin(which),
        14..18 => Operation::Publish {
            product: random.below(3),
            tree,
        },
        18..20 => Operation::Yank(which),
        20..22 => Operation::Begin {
            tree,
            hold: random.coin(),
        },
        22 => Operation::End(which),
        23 => Operation::Hold(which),
        24..26 => Operation::Cache(tree),
        26 => Operation::Evict,
        27 => Operation::Seal,
        28..32 => Operation::Collect {
            seal: random.coin(),
        },
        32 => Operation::CollectAll,
        33 => Operation::Check {
            repair: random.coin(),
        },
        34 => Operation::Reopen,
        _ => Operation::Cut {
            after: random.below(60),
            again: (random.below(4) == 0).then(|| random.below(20)),
        },
    }
}
