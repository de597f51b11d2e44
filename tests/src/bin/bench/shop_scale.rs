//! `shop-scale`: a shop of thousands of products, built by publishing each release, and what the next
//! publish costs: from the command to the signed, durable head.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use duka_gateway::control::client::Client;
use duka_gateway::control::event::{Event, Outcome};
use duka_gateway::control::request::{Import, Publish, Request, Source};
use duka_tests::duka::{self, Duka};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use crate::report::{Report, Row, Target};
use crate::setup::Setup;

/// Targets of one publish with its head.
const SECONDS: Target = Target::AtMost(1.0);
const BLOCKS: Target = Target::AtMost(200.0);

/// Publishes at once while the shop is built.
const AT_ONCE: usize = 16;
/// How long a head may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Pause between two looks at the newest head.
const POLL: Duration = Duration::from_millis(5);

pub(crate) fn run(setup: &Setup, products: u64, releases: u64) -> Result<Report> {
    let duka = setup.duka(&duka::Options::default())?;
    duka.ok(&["init"])?;
    let files = setup.folder()?;
    let shop = Shop {
        data_dir: duka.data_dir(),
        files: files.path().to_owned(),
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let node = duka.serve()?;
    let started = Instant::now();
    runtime.block_on(shop.build(products, releases))?;
    let built = started.elapsed();
    runtime.block_on(shop.wait_for(&duka, products * releases))?;
    let signed = started.elapsed();
    let notes = vec![format!(
        "{products} products with {releases} releases each: published in {:.0} s, all in a signed head after {:.0} s",
        built.as_secs_f64(),
        signed.as_secs_f64()
    )];

    let mut time = Row::new(
        "one publish, from the command to the signed, durable head",
        "s",
    );
    let mut blocks = Row::new("blocks that it writes, head included", "blocks");
    let mut bytes = Row::new("bytes of packs that it writes, head included", "KiB");
    for repetition in 0..setup.repetitions {
        let product = products * (repetition as u64 + 1) / (setup.repetitions as u64 + 1);
        let before = runtime.block_on(shop.stored())?;
        let file = shop.write(product, releases + repetition as u64)?;
        let head = runtime.block_on(shop.head())?;
        let started = Instant::now();
        publish(&duka, product, &file)?;
        runtime.block_on(shop.next_head(head))?;
        time.push("duka", started.elapsed().as_secs_f64());
        let after = runtime.block_on(shop.stored())?;
        blocks.push("duka", (after.0 - before.0) as f64);
        bytes.push("duka", (after.1 - before.1) as f64 / 1024.0);
    }
    time.absolute("duka", SECONDS);
    blocks.absolute("duka", BLOCKS);

    node.stop()?;
    let mut alone = Row::new(
        "the same without a running node: opens the shop, waits for the head",
        "s",
    );
    for repetition in 0..setup.repetitions {
        let file = shop.write(0, 2 * releases + repetition as u64)?;
        let started = Instant::now();
        publish(&duka, 0, &file)?;
        alone.push("duka", started.elapsed().as_secs_f64());
    }
    Ok(Report {
        bench: "shop-scale",
        repetitions: setup.repetitions,
        kubo: Value::Null,
        notes,
        rows: vec![time, blocks, bytes, alone],
    })
}

fn publish(duka: &Duka, product: u64, file: &Path) -> Result<()> {
    let file = file.to_str().context("a bench's path is text")?;
    duka.ok(&["publish", file, "--product", &id(product)])?;
    Ok(())
}

fn id(product: u64) -> String {
    format!("product-{product:05}")
}

struct Shop {
    data_dir: PathBuf,
    files: PathBuf,
}

impl Shop {
    /// Publishes all releases through the control socket, as the command does, without a process for each.
    async fn build(&self, products: u64, releases: u64) -> Result<()> {
        let done = &AtomicU64::new(0);
        // The releases of one product one after the other: a publish takes the next number.
        stream::iter(0..products)
            .map(|product| async move {
                for release in 0..releases {
                    self.publish(product, release).await?;
                    let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                    if done.is_multiple_of(10_000) {
                        eprintln!("{done} releases");
                    }
                }
                anyhow::Ok(())
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        Ok(())
    }

    async fn publish(&self, product: u64, release: u64) -> Result<()> {
        let file = self.write(product, release)?;
        let request = Request::Publish(Box::new(Publish {
            source: Source::Path(file.clone()),
            product: id(product).parse()?,
            version: None,
            channel: None,
            title: None,
            description: None,
            price: None,
            notes: None,
            cover: None,
            import: Import::default(),
            if_changed: false,
            dry_run: false,
            wait: Vec::new(),
            wait_seconds: None,
        }));
        self.ask(request).await?;
        std::fs::remove_file(file)?;
        Ok(())
    }

    /// Writes the file of a release.
    fn write(&self, product: u64, release: u64) -> Result<PathBuf> {
        let file = self.files.join(id(product));
        std::fs::write(&file, format!("release {release} of product {product}\n"))?;
        Ok(file)
    }

    async fn ask(&self, request: Request) -> Result<Outcome> {
        let client = Client::connect(&self.data_dir).await?;
        let mut events = client.context("no node runs")?.send(&request, None).await;
        while let Some(event) = events.next().await {
            match event {
                Event::Result(outcome) => return Ok(outcome),
                Event::Error(failure) => bail!(failure),
                _ => {}
            }
        }
        bail!("{request:?} has no result")
    }

    /// Sequence number of the newest head.
    async fn head(&self) -> Result<u64> {
        let Outcome::ShopShow(shop) = self.ask(Request::ShopShow).await? else {
            bail!("the shop is not shown");
        };
        Ok(shop.head.map_or(0, |head| head.seq))
    }

    async fn next_head(&self, before: u64) -> Result<()> {
        let started = Instant::now();
        while self.head().await? == before {
            ensure!(started.elapsed() < PATIENCE, "no head after {before}");
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits for the head that has so many releases.
    async fn wait_for(&self, duka: &Duka, releases: u64) -> Result<()> {
        let started = Instant::now();
        loop {
            let Outcome::ShopShow(shop) = self.ask(Request::ShopShow).await? else {
                bail!("the shop is not shown");
            };
            if let Some(head) = shop.head {
                let path = format!("/ipfs/{}/shop.json", head.cid);
                let head: Value = serde_json::from_slice(&duka.plain(&["cat", &path])?.stdout)?;
                if head["counts"]["releases"] == releases {
                    return Ok(());
                }
            }
            ensure!(
                started.elapsed() < PATIENCE,
                "no head has {releases} releases"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Blocks and bytes of the kept packs.
    async fn stored(&self) -> Result<(u64, u64)> {
        let Outcome::Stat(stat) = self.ask(Request::Stat).await? else {
            bail!("nothing is counted");
        };
        Ok((stat.kept_blocks, stat.kept_bytes))
    }
}
