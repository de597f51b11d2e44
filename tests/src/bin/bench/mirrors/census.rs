//! `census`: how often mirrors are caught that lost a tenth of the blocks and do not know, and how often a
//! whole one is accused.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cid::Cid;
use duka_node::block::Block;
use duka_node::dag::links::links;
use duka_node::store::{PackKind, Store, StoreOptions};
use duka_tests::duka::{Serving, field};
use duka_tests::files;
use duka_tests::net::wan::{Link, Wan};
use duka_tests::process::wait_until;
use duka_tests::random::Random;
use serde_json::Value;

use super::{CREATOR, Node, PRODUCT, Settings, mirror};
use crate::report::{Report, Row, Target};
use crate::setup::Setup;

const PATIENCE: Duration = Duration::from_secs(180);
/// One block in so many is lost.
const LOST_PART: usize = 10;
const FILE_LEN: usize = 1024;
/// Clients of the mirror that has all.
const LOADERS: usize = 4;
const LINK: Link = Link {
    delay: Duration::from_millis(5),
    loss: 0.0,
    rate: Some(50_000_000),
};

pub(crate) struct Options {
    pub(crate) mirrors: u8,
    pub(crate) censuses: usize,
    pub(crate) challenges: u32,
    pub(crate) files: usize,
}

pub(crate) fn run(setup: &Setup, options: &Options) -> Result<Report> {
    let seed = setup.seed(0);
    let wan = Wan::new(seed)?;
    let settings = Settings::without_dht(LINK);
    let creator = Node::start(setup, &wan, CREATOR, settings)?;
    let shop = creator.shop()?;
    publish_files(&creator, seed, options.files)?;
    let path = format!("/ipns/{shop}/p/{PRODUCT}/1.0/000/000000.bin");
    let mut client = creator.ask()?;
    wait_until("the head has the release", PATIENCE, || {
        client.holds(&path).unwrap_or(false).then_some(())
    })?;
    let mut random = Random(seed);
    let honest = mirror(1);
    let (mut nodes, mut honest_id, mut chance) = (Vec::new(), String::new(), 0.0);
    for number in 0..=options.mirrors {
        let mut node = Node::start(setup, &wan, mirror(number + 1), settings)?;
        node.mirrors(&shop, &creator)?;
        wait_until("a mirror is whole", PATIENCE, || is_whole(&node))?;
        if node.address == honest {
            honest_id = peer_id(&node)?;
        } else {
            let (lost, all) = lose(&mut node, &mut random)?;
            is_whole(&node).context("a mirror that lost blocks does not claim to be whole")?;
            chance = passes(lost, all, options.challenges);
        }
        nodes.push(node);
    }
    wait_until("all mirrors are connected again", PATIENCE, || {
        let found = censused(&creator, 1).ok()?;
        (found.len() == nodes.len()).then_some(())
    })?;

    let load = Load::of(nodes.first().context("there is a mirror")?, &path)?;
    let (mut caught, mut passed, mut accused) = (0_u32, 0_u32, 0_u32);
    let (mut answers, mut late) = (0, 0);
    for _ in 0..options.censuses {
        for Found {
            peer,
            is_caught,
            asked,
            came_late,
        } in censused(&creator, options.challenges)?
        {
            answers += asked;
            late += came_late;
            if peer == honest_id {
                accused += u32::from(is_caught);
            } else {
                caught += u32::from(is_caught);
                passed += u32::from(!is_caught);
            }
        }
    }
    let answered = load.stop();
    let asked = usize::try_from(caught + passed)?;
    ensure!(
        asked == options.censuses * usize::from(options.mirrors),
        "some mirrors were not asked"
    );
    let what = format!("{} challenges of a mirror", options.challenges);
    let mut row = Row::new(what, "%");
    row.push("caught", f64::from(caught) / asked as f64 * 100.0);
    row.absolute("caught", Target::AtLeast(99.0));
    row.push("by the draw", (1.0 - chance) * 100.0);
    row.push(
        "accused though whole",
        f64::from(accused) / options.censuses as f64 * 100.0,
    );
    row.absolute("accused though whole", Target::AtMost(0.0));
    row.push("of all answers late", late as f64 / answers as f64 * 100.0);
    Ok(Report {
        bench: "census",
        repetitions: 1,
        kubo: Value::Null,
        notes: vec![
            format!(
                "{} censuses by the creator of {} mirrors that lost a random tenth of the blocks, and of one \
                 that has all; {caught} times caught, {passed} times not",
                options.censuses, options.mirrors
            ),
            "all show the shop as whole; what they lost is not in their stores".to_owned(),
            format!(
                "20 ms of round trip; the one that has all is under load: {LOADERS} clients, {answered} answers"
            ),
        ],
        rows: vec![row],
    })
}

/// Clients that keep a mirror busy.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<u64>>,
}

impl Load {
    /// Asks the mirror for a file again and again.
    fn of(node: &Node, path: &str) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let client = || {
            let (stop, path, mut client) = (Arc::clone(&stop), path.to_owned(), node.ask()?);
            Ok(thread::spawn(move || {
                let mut answered = 0;
                while !stop.load(Relaxed) {
                    answered += u64::from(client.holds(&path).unwrap_or(false));
                }
                answered
            }))
        };
        let clients = (0..LOADERS).map(|_| client()).collect::<Result<_>>()?;
        Ok(Self { stop, clients })
    }

    /// Gives how many answers there were.
    fn stop(self) -> u64 {
        self.stop.store(true, Relaxed);
        let clients = self.clients.into_iter();
        clients.filter_map(|client| client.join().ok()).sum()
    }
}

fn publish_files(creator: &Node, seed: u64, count: usize) -> Result<()> {
    let folder = creator.duka.home().join("files");
    files::write_small_files(&folder, seed, count, FILE_LEN)?;
    let path = folder.to_str().context("a path that is no text")?;
    creator
        .duka
        .ok(&["publish", path, "--product", PRODUCT, "--version", "1.0"])?;
    Ok(())
}

fn peer_id(node: &Node) -> Result<String> {
    Ok(field(&node.duka.ok(&["id"])?, "peer_id")?.to_owned())
}

/// Whether the mirror says that it has all.
fn is_whole(node: &Node) -> Option<()> {
    let mirror = node.mirror_status().ok()?;
    (mirror["state"] == "whole" && mirror["head"].is_object()).then_some(())
}

/// What one census found of one mirror.
struct Found {
    peer: String,
    /// It did not have some block.
    is_caught: bool,
    asked: u64,
    came_late: u64,
}

/// Runs one census.
fn censused(creator: &Node, challenges: u32) -> Result<Vec<Found>> {
    let challenges = challenges.to_string();
    let census = creator
        .duka
        .cmd(&["mirror", "census", "--challenges", &challenges])?;
    let events = census.events()?;
    ensure!(census.code == 0, "{}", census.complaint());
    let proved = events.iter().filter(|event| event["kind"] == "proved");
    proved
        .filter(|event| event["asked"] != 0)
        .map(|event| {
            let number = |name: &str| event[name].as_u64().context("a count");
            Ok(Found {
                peer: field(event, "who")?.to_owned(),
                is_caught: event["verdict"] == "lacks",
                asked: number("asked")?,
                came_late: number("late")?,
            })
        })
        .collect()
}

/// Takes a random tenth of the head's blocks out of a mirror's store, while it does not run. Gives how many,
/// and how many there were.
fn lose(node: &mut Node, random: &mut Random) -> Result<(usize, usize)> {
    let root: Cid = field(&node.mirror_status()?["head"], "cid")?.parse()?;
    node.serving.take().context("it runs")?.stop()?;
    let (dir, less_dir) = (
        node.duka.data_dir().join("blocks"),
        node.duka.home().join("less"),
    );
    let (whole, less) = (open(&dir)?, open(&less_dir)?);
    let mut blocks = below(&whole, root)?;
    let (all, lost) = (blocks.len(), blocks.len() / LOST_PART);
    for _ in 0..lost {
        let at = usize::try_from(random.below(blocks.len() as u64))?;
        blocks.swap_remove(at);
    }
    for cid in blocks {
        let block = whole.get(&cid)?.context("a block went away")?;
        less.put(PackKind::Kept, &[block])?;
    }
    less.commit()?;
    drop((whole, less));
    fs::remove_dir_all(dir.join("packs"))?;
    fs::rename(less_dir.join("packs"), dir.join("packs"))?;
    let mut serve = node.duka.command();
    // It would find out in a minute, and fetch them again.
    serve
        .env("DUKA_STORE_SCRUB_INTERVAL", "0s")
        .args(["--json", "serve"]);
    node.serving = Some(Serving::start(&mut serve)?);
    Ok((lost, all))
}

fn open(dir: &Path) -> Result<Store> {
    let options = StoreOptions {
        reserve: 0,
        ..StoreOptions::default()
    };
    fs::create_dir_all(dir)?;
    Ok(Store::open(dir, options)?.0)
}

fn below(store: &Store, root: Cid) -> Result<Vec<Cid>> {
    let (mut seen, mut found, mut waiting) = (HashSet::new(), Vec::new(), vec![root]);
    while let Some(cid) = waiting.pop() {
        let is_inlined = Block::inlined(&cid)?.is_some();
        if is_inlined || !seen.insert(cid) {
            continue;
        }
        let block = store.get(&cid)?.context("the mirror is not whole")?;
        waiting.extend(links(&block)?);
        found.push(cid);
    }
    Ok(found)
}

/// How likely it is that draws without putting back meet none of the lost ones.
fn passes(lost: usize, all: usize, draws: u32) -> f64 {
    let left = |drawn: u32| all as f64 - f64::from(drawn);
    (0..draws)
        .map(|drawn| 1.0 - lost as f64 / left(drawn))
        .product()
}
