//! Measures duka against Kubo (and nginx) on the same input in the same run.
//!
//! `cargo run --release -p duka-tests --bin bench -- NAME`; `--help` lists the names.
//!
//! Contenders take turns. Every repetition has fresh bytes and fresh repositories, root CIDs are
//! compared, and the median counts: absolute figures move from machine to machine, ratios less.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints"
)]

mod bitswap;
mod buyers;
mod denylist;
mod gateway;
mod gc;
mod idle;
mod import;
mod index;
mod machine;
mod memory;
mod mirrors;
mod pins;
mod read;
mod report;
mod republish;
mod setup;
mod shop_scale;
mod soak;
mod storefront;
mod up;
mod upgrade;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use bytesize::ByteSize;
use clap::{Parser, Subcommand};

use crate::report::Report;
use crate::setup::Setup;

/// Measures duka against Kubo and nginx; Kubo comes from tests/peers/go/build.sh.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Args {
    #[command(subcommand)]
    bench: Bench,
    /// Repetitions; the median counts
    #[arg(long, global = true, default_value_t = 5)]
    reps: usize,
    /// Print only JSON
    #[arg(long, global = true)]
    json: bool,
    /// Folder for the repositories, on the disk to be measured
    #[arg(long, global = true, default_value = "target/bench")]
    folder: std::path::PathBuf,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Publish one file, node running
    Publish {
        /// Size of the file
        #[arg(long, default_value = "1GiB")]
        size: ByteSize,
        /// How both cut it, such as buzhash
        #[arg(long)]
        chunker: Option<String>,
    },
    /// Publish a tree of small files, node running
    Small {
        /// Files
        #[arg(long, default_value_t = 20_000)]
        count: usize,
        /// Size of each
        #[arg(long, default_value = "4KiB")]
        size: ByteSize,
    },
    /// Publish a file again of which a hundredth changed, node running
    Republish {
        /// Size of the file
        #[arg(long, default_value = "1GiB")]
        size: ByteSize,
    },
    /// Read random blocks of a cold store
    Read {
        /// Size of the store
        #[arg(long, default_value = "2GiB")]
        size: ByteSize,
        /// Threads that read [default: one per core]
        #[arg(long)]
        threads: Option<usize>,
    },
    /// Publish while garbage is collected
    Gc {
        /// Publishes of 1 MiB each
        #[arg(long, default_value_t = 200)]
        publishes: usize,
        /// Size of the store that is collected
        #[arg(long, default_value = "3GiB")]
        size: ByteSize,
    },
    /// Memory of a publish from standard input
    Memory {
        /// Bytes to publish
        #[arg(long, default_value = "10GiB")]
        size: ByteSize,
    },
    /// List pins
    Pins {
        /// How many
        #[arg(long, default_value_t = 100_000)]
        count: u64,
    },
    /// Fetch from a peer: all four pairs of Kubo and duka
    Bitswap {
        /// Bytes fetched; 64 MiB when there is a delay
        #[arg(long)]
        size: Option<ByteSize>,
        /// Round trip between the peers in milliseconds
        #[arg(long)]
        delay: Option<u64>,
        /// Over QUIC instead of TCP
        #[arg(long)]
        quic: bool,
        /// Blocks of 256 KiB (profile unixfs-v0-2015) instead of 1 MiB
        #[arg(long)]
        small_blocks: bool,
        /// Blocks that duka keeps in flight; its default without
        #[arg(long)]
        window: Option<usize>,
    },
    /// Serve files over HTTP, against Kubo's gateway and nginx
    Gateway {
        /// Seconds of load for each measurement
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Size of the large file for one client
        #[arg(long, default_value = "1GiB")]
        size: ByteSize,
    },
    /// Thousands of connections that all ask for a file of 1 KiB, against Kubo's gateway and nginx
    Connections {
        /// How many
        #[arg(long, default_value_t = 10_000)]
        count: u32,
        /// Seconds of load for each contender
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// The page of a directory that is a HAMT, against Kubo's gateway
    Listing {
        /// Its entries
        #[arg(long, default_value_t = 6000)]
        entries: usize,
    },
    /// Mixed load on a gateway that one process after the other takes over
    Soak {
        /// How long
        #[arg(long, default_value_t = 30)]
        minutes: u64,
        /// Seconds from one hand-over to the next
        #[arg(long, default_value_t = 30)]
        pause: u64,
        /// Size of the large file
        #[arg(long, default_value = "1GiB")]
        size: ByteSize,
    },
    /// Download from ten gateways, nine of them blocked at random
    Blocked {
        /// Downloads
        #[arg(long, default_value_t = 200)]
        downloads: usize,
        /// Size of the file
        #[arg(long, default_value = "16MiB")]
        size: ByteSize,
    },
    /// Download from four slow gateways, one of which lies and one dies
    Limited {
        /// Size of the file
        #[arg(long, default_value = "512MiB")]
        size: ByteSize,
    },
    /// Kill a download again and again
    Killed {
        /// Size of the file
        #[arg(long, default_value = "4GiB")]
        size: ByteSize,
        /// How often
        #[arg(long, default_value_t = 10)]
        kills: u64,
    },
    /// From a publish to the release at a third node, by gossip
    Gossip {
        /// Publishes
        #[arg(long, default_value_t = 200)]
        publishes: usize,
        /// Size of each
        #[arg(long, default_value = "1MiB")]
        size: ByteSize,
    },
    /// Mirrors that show a new head within seconds, when packets get lost
    Freshness {
        /// Mirrors
        #[arg(long, default_value_t = 20)]
        mirrors: u8,
        /// Publishes
        #[arg(long, default_value_t = 20)]
        publishes: usize,
        /// Size of each
        #[arg(long, default_value = "64KiB")]
        size: ByteSize,
    },
    /// How often a census catches mirrors that lost a tenth of the blocks, and accuses a whole one
    Census {
        /// Mirrors that lost blocks, each others
        #[arg(long, default_value_t = 8)]
        mirrors: u8,
        /// Censuses
        #[arg(long, default_value_t = 125)]
        censuses: usize,
        /// Challenges of each mirror in one census
        #[arg(long, default_value_t = 50)]
        challenges: u32,
        /// Files of the shop
        #[arg(long, default_value_t = 4000)]
        files: usize,
    },
    /// Mirror a large shop of many files with little memory; needs root
    Mirror {
        /// Size of the shop
        #[arg(long, default_value = "8GiB")]
        size: ByteSize,
        /// Its files
        #[arg(long, default_value_t = 50_000)]
        count: usize,
        /// Memory that the mirror may have, page cache included
        #[arg(long, default_value = "256MiB")]
        memory: ByteSize,
    },
    /// For how long the name of a shop resolves whose creator is gone
    Alive,
    /// Thirty days of machines that die and come back, in minutes
    Month {
        /// Simulated days
        #[arg(long, default_value_t = 30)]
        days: u64,
        /// Milliseconds that a simulated minute takes at least
        #[arg(long, default_value_t = 20)]
        minute: u64,
    },
    /// What a publish costs in a large shop
    ShopScale {
        /// Products
        #[arg(long, default_value_t = 10_000)]
        products: u64,
        /// Releases of each
        #[arg(long, default_value_t = 10)]
        releases: u64,
    },
    /// What an upgrade of real programs downloads; fetches their releases from npm, PyPI and Go's proxy
    Upgrade,
    /// Load a denylist
    Denylist {
        /// Its lines
        #[arg(long, default_value_t = 1_000_000)]
        lines: u64,
    },
    /// From the command `duka up` to the answer of its link
    Up {
        /// Size of the folder
        #[arg(long, default_value = "100MiB")]
        size: ByteSize,
    },
    /// Memory and CPU of a node without peers
    Idle {
        /// Seconds of watching
        #[arg(long, default_value_t = 20)]
        seconds: u64,
    },
    /// A checked download and search in Chromium
    Storefront {
        /// Size of the file
        #[arg(long, default_value = "4GiB")]
        size: ByteSize,
        /// Products in the index
        #[arg(long, default_value_t = 10_000)]
        products: usize,
    },
    /// Open stores of up to 10,000,000 blocks and look blocks up
    Index,
    /// What `index` measures, in a process of its own
    #[command(hide = true)]
    OpenStore {
        /// Folder of the store
        folder: std::path::PathBuf,
        /// Blocks in it
        blocks: u64,
    },
    /// What `denylist` measures, in a process of its own
    #[command(hide = true)]
    LoadDenylist {
        /// The list
        file: std::path::PathBuf,
    },
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let found = match &args.bench {
        Bench::OpenStore { folder, blocks } => Some(index::open_store(folder, *blocks)?),
        Bench::LoadDenylist { file } => Some(denylist::load(file)?),
        _ => None,
    };
    if let Some(found) = found {
        println!("{found}");
        return Ok(ExitCode::SUCCESS);
    }
    let setup = Setup::new(&args.folder, args.reps)?;
    let report: Report = match args.bench {
        Bench::Publish { size, chunker } => {
            import::publish(&setup, size.as_u64(), chunker.as_deref())
        }
        Bench::Small { count, size } => import::small(&setup, count, size.as_u64()),
        Bench::Republish { size } => republish::run(&setup, size.as_u64()),
        Bench::Read { size, threads } => {
            let threads = threads.unwrap_or_else(machine::cores);
            read::run(&setup, size.as_u64(), threads)
        }
        Bench::Gc { publishes, size } => gc::run(&setup, publishes, size.as_u64()),
        Bench::Memory { size } => memory::run(&setup, size.as_u64()),
        Bench::Pins { count } => pins::run(&setup, count),
        Bench::Bitswap {
            size,
            delay,
            quic,
            small_blocks,
            window,
        } => {
            let default = if delay.is_some() {
                ByteSize::mib(64)
            } else {
                ByteSize::gib(1)
            };
            let size = size.unwrap_or(default).as_u64();
            bitswap::run(
                &setup,
                &bitswap::Options {
                    size,
                    delay,
                    quic,
                    small_blocks,
                    window,
                },
            )
        }
        Bench::Gateway { seconds, size } => gateway::run(&setup, seconds, size.as_u64()),
        Bench::Connections { count, seconds } => gateway::connections(&setup, count, seconds),
        Bench::Listing { entries } => gateway::listing(&setup, entries),
        Bench::Soak {
            minutes,
            pause,
            size,
        } => {
            let [length, pause] = [minutes * 60, pause].map(Duration::from_secs);
            soak::run(&setup, length, pause, size.as_u64())
        }
        Bench::Blocked { downloads, size } => buyers::blocked(&setup, downloads, size.as_u64()),
        Bench::Limited { size } => buyers::limited(&setup, size.as_u64()),
        Bench::Killed { size, kills } => buyers::killed(&setup, size.as_u64(), kills),
        Bench::Gossip { publishes, size } => mirrors::gossip(&setup, publishes, size.as_u64()),
        Bench::Freshness {
            mirrors,
            publishes,
            size,
        } => mirrors::freshness(&setup, mirrors, publishes, size.as_u64()),
        Bench::ShopScale { products, releases } => shop_scale::run(&setup, products, releases),
        Bench::Upgrade => upgrade::run(&setup),
        Bench::Census {
            mirrors,
            censuses,
            challenges,
            files,
        } => mirrors::census(
            &setup,
            &mirrors::CensusOptions {
                mirrors,
                censuses,
                challenges,
                files,
            },
        ),
        Bench::Mirror {
            size,
            count,
            memory,
        } => mirrors::limited(&setup, size.as_u64(), count, memory.as_u64()),
        Bench::Alive => mirrors::alive(&setup),
        Bench::Month { days, minute } => {
            mirrors::month(&setup, days, Duration::from_millis(minute))
        }
        Bench::Denylist { lines } => denylist::run(&setup, lines),
        Bench::Up { size } => up::run(&setup, size.as_u64()),
        Bench::Idle { seconds } => idle::run(&setup, seconds),
        Bench::Storefront { size, products } => storefront::run(&setup, size.as_u64(), products),
        Bench::Index => index::run(&setup),
        Bench::OpenStore { .. } | Bench::LoadDenylist { .. } => unreachable!("done above"),
    }?;
    if !args.json {
        print!("{}", report.table());
    }
    println!("{}", report.json());
    Ok(if report.passes() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
