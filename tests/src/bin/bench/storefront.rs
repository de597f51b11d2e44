//! `storefront`: a checked download and search, in Chromium.

use anyhow::{Context, Result, ensure};
use duka_node::manifest::Manifest;
use duka_node::manifest::change::{Change, Op};
use duka_node::manifest::record::{Job, Text};
use duka_tests::duka::{self, Duka, field};
use duka_tests::random::Random;
use duka_tests::visitor::visit;
use duka_tests::{curl, files, process};
use serde_json::{Value, json};

use crate::report::{Report, Row, Target};
use crate::setup::Setup;

/// Targets.
const MEMORY_MIB: Target = Target::AtMost(150.0);
const QUERY_MS: Target = Target::AtMost(50.0);
const SCRIPT_KB: Target = Target::AtMost(20.0);

/// Products that are made with one change of the manifest.
const BATCH: usize = 1000;
const QUERIES: usize = 200;
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(600);

pub(crate) fn run(setup: &Setup, size: u64, products: usize) -> Result<Report> {
    let duka = setup.duka(&duka::Options::default())?;
    duka.ok(&["init"])?;
    let file = duka.home().join("large");
    files::write_random(&file, setup.seed(0), size)?;
    duka.ok(&[
        "publish",
        file.to_str().context("a path")?,
        "--product",
        "large",
    ])?;
    std::fs::remove_file(&file)?;
    let words = Words::new(setup.seed(1));
    fill(&duka, products, &words)?;
    let node = duka.serve()?;
    let shop = format!("{}/ipns/{}/", node.gateway()?, field(node.ready(), "name")?);
    process::wait_until("the head of all products", PATIENCE, || {
        let head = curl::curl(&format!("{shop}shop.json"), &[]).ok()?;
        let head: Value = serde_json::from_slice(&head.body).ok()?;
        (head["counts"]["products"] == products + 1).then_some(())
    })?;

    let mut memory = Row::new("the renderer's memory, at most", "MiB");
    let mut rate = Row::new("checked download", "MB/s");
    let mut slowest = Row::new("slowest query", "ms");
    let mut mean = Row::new("mean query", "ms");
    let mut loading = Row::new("load the index", "ms");
    let mut script = Row::new("script before search", "kB");
    for repetition in 0..setup.repetitions {
        let seen = visit(
            "measure",
            &json!({
                "url": shop,
                "file": format!("{shop}products/large/"),
                "queries": words.queries(setup.seed(repetition)),
            }),
        )?;
        let told = seen["text"].as_str().unwrap_or_default();
        ensure!(told.contains("block by block"), "{told}");
        let figure = |value: &Value| value.as_f64().context("a figure");
        memory.push("duka", figure(&seen["most"])? / f64::from(1 << 20));
        rate.push("duka", size as f64 / 1e6 / figure(&seen["seconds"])?);
        for (page, bytes) in ["front page", "product page"].iter().zip([0, 1]) {
            script.push(page, figure(&seen["scripts"][bytes])? / 1e3);
        }
        let found = &seen["search"];
        ensure!(found["products"] == products + 1, "{found}");
        loading.push("duka", figure(&found["loaded"])?);
        let times = found["times"].as_array().context("times")?;
        let times: Vec<f64> = times
            .iter()
            .filter_map(|time| time["ms"].as_f64())
            .collect();
        slowest.push("duka", times.iter().copied().fold(0.0, f64::max));
        mean.push("duka", times.iter().sum::<f64>() / times.len() as f64);
    }
    memory.absolute("duka", MEMORY_MIB);
    slowest.absolute("duka", QUERY_MS);
    script.absolute("front page", SCRIPT_KB);
    script.absolute("product page", SCRIPT_KB);
    Ok(Report {
        bench: "storefront",
        repetitions: setup.repetitions,
        kubo: Value::Null,
        notes: vec![format!("{size} bytes, {products} products")],
        rows: vec![memory, rate, script, slowest, mean, loading],
    })
}

/// Copies the one product under other ids and titles.
fn fill(duka: &Duka, products: usize, words: &Words) -> Result<()> {
    let (manifest, _) = Manifest::open(&duka.data_dir().join("manifest"))?;
    let (_, model) = manifest.products().next().context("a product")??;
    let (version, release) = manifest
        .releases(&"large".parse()?)
        .next()
        .context("a release")??;
    let mut random = Random(1);
    let numbers: Vec<usize> = (0..products).collect();
    for batch in numbers.chunks(BATCH) {
        let mut ops = vec![Op::PutJob(manifest.new_job_id(), Job::Announce)];
        for number in batch {
            let id: duka_node::ids::ProductId = format!("product-{number}").parse()?;
            let mut product = model.clone();
            product.title = words.some(3, &mut random);
            product.description = Text::Inline(words.some(20, &mut random));
            // Made as if its checksums were known: they are those of the model.
            let mut release = release.clone();
            release.record = Some(release.file_list);
            ops.push(Op::PutProduct(id.clone(), product));
            ops.push(Op::PutRelease(id, version.clone(), release));
        }
        manifest.commit_blocking(Change {
            expect: Vec::new(),
            ops,
        })?;
    }
    Ok(())
}

/// A language of made-up words.
struct Words(Vec<String>);

impl Words {
    fn new(seed: u64) -> Self {
        const SYLLABLES: [&str; 24] = [
            "ka", "lo", "mi", "ter", "sun", "har", "bour", "light", "moon", "ri", "ver", "stone",
            "fal", "con", "gra", "vi", "ty", "pen", "dra", "go", "nest", "wind", "or", "chid",
        ];
        let mut random = Random(seed);
        let mut word = |_| {
            let length = 2 + random.below(3);
            let syllable = |_| SYLLABLES[index(&mut random, SYLLABLES.len())];
            (0..length).map(syllable).collect()
        };
        Self((0..20_000).map(&mut word).collect())
    }

    fn some(&self, count: usize, random: &mut Random) -> String {
        let words = (0..count).map(|_| self.0[index(random, self.0.len())].as_str());
        words.collect::<Vec<_>>().join(" ")
    }

    /// Words, beginnings of words, and words with a letter missing.
    fn queries(&self, seed: u64) -> Vec<String> {
        let mut random = Random(seed);
        (0..QUERIES)
            .map(|number| {
                let mut query = self.some(1 + number % 2, &mut random);
                match number % 3 {
                    0 => drop(query.remove(2)),
                    1 => query.truncate(5),
                    _ => {}
                }
                query
            })
            .collect()
    }
}

fn index(random: &mut Random, end: usize) -> usize {
    usize::try_from(random.below(end as u64)).expect("below a usize")
}
