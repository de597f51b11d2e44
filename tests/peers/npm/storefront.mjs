// A visitor of a shop in headless Chromium: storefront.mjs CHROMIUM SCENARIO JSON prints what it saw, as JSON.

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { createRequire } from "node:module";
import { pipeline } from "node:stream/promises";
import { chromium } from "playwright-core";

const PATIENCE = 120_000;
const BLOCKS = /\/ipfs\/[a-z0-9]+\?format=raw$|[?&]format=raw$/;

const [, , executablePath, scenario, json] = process.argv;
const what = JSON.parse(json);
const scenarios = { look, search, fetchFile, resume, refused, plain, measure };

// /dev/shm is small in containers, and root has no sandbox.
const args = ["--no-sandbox", "--disable-dev-shm-usage"];
// A host that is no secure context, unlike localhost.
if (what.host) args.push(`--host-resolver-rules=MAP ${what.host} 127.0.0.1`);
const browser = await chromium.launch({ executablePath, args });
try {
  console.log(JSON.stringify(await scenarios[scenario](what)));
} finally {
  await browser.close();
}

async function visit(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  return { context, page, complaints };
}

// Each page in light and dark, narrow and wide: what the browser and axe complain of.
async function look({ urls }) {
  const axe = createRequire(import.meta.url).resolve("axe-core");
  const seen = [];
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [360, 1280]) {
      for (const url of urls) {
        const viewport = { width, height: 800 };
        const strict = await visit({ viewport, colorScheme });
        await strict.page.goto(url, { waitUntil: "networkidle" });
        const overflow = await strict.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        await strict.context.close();
        // axe is put into the page, which the page's policy rightly refuses.
        const { context, page } = await visit({ viewport, colorScheme, bypassCSP: true });
        await page.goto(url, { waitUntil: "networkidle" });
        await page.addScriptTag({ path: axe });
        const { violations } = await page.evaluate(() => globalThis.axe.run());
        await context.close();
        seen.push({
          page: `${url} ${colorScheme} ${width}`,
          overflow,
          complaints: strict.complaints,
          violations: violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`),
        });
      }
    }
  }
  return seen;
}

// Opens search by the keyboard, types, and follows the first result by the keyboard.
async function search({ url, query }) {
  const { page, complaints } = await visit();
  await page.goto(url, { waitUntil: "networkidle" });
  const before = await scripts(page);
  await page.keyboard.press("/");
  await page.keyboard.type(query);
  await page.waitForFunction(() => / for “/.test(document.getElementById("found").textContent) && !/so far|Searching/.test(document.getElementById("found").textContent));
  const titles = await page.locator("#results a").allTextContents();
  await page.waitForURL(/[?]q=/);
  const again = page.url();
  await page.locator("#results a").first().focus();
  await page.keyboard.press("Enter");
  await page.waitForURL("**/products/**");
  return { titles, again, arrived: await page.locator("h1").first().textContent(), before, complaints };
}

// Bytes of scripts that the page has loaded.
async function scripts(page) {
  return page.evaluate(async () => {
    const files = performance.getEntriesByType("resource").filter(({ name }) => /\.m?js$/.test(new URL(name).pathname));
    const lengths = files.map(async ({ name }) => (await (await fetch(name)).arrayBuffer()).byteLength);
    return (await Promise.all(lengths)).reduce((all, one) => all + one, 0);
  });
}

async function saved(page, click) {
  const coming = page.waitForEvent("download", { timeout: PATIENCE });
  await click();
  const download = await coming;
  const path = await download.path();
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  const text = await page.locator(".job").first().textContent();
  const sources = await page.locator(".job .sources li").allTextContents();
  return { sha256: hash.digest("hex"), name: download.suggestedFilename(), text, sources };
}

// The button for a checked download of the file of this name, or of the only one.
function checked(page, name) {
  return name ? page.locator(".files li", { hasText: name }).locator("button") : page.locator(".actions button");
}

// A checked download of the file of this name, or of the only one.
async function fetchFile({ url, name }) {
  const { page, complaints } = await visit();
  await page.goto(url, { waitUntil: "networkidle" });
  const button = checked(page, name);
  return { ...(await saved(page, () => button.first().click())), complaints };
}

// A download whose page is loaded again after so many blocks.
async function resume({ url, blocks }) {
  const { context, page } = await visit();
  const asked = [0, 0];
  let life = 0;
  await context.route(BLOCKS, (route) => {
    // The blocks after these never come in the first life of the page.
    if (++asked[life] <= blocks || life === 1) return route.continue();
  });
  await page.goto(url, { waitUntil: "networkidle" });
  await checked(page).click();
  await page.waitForFunction((least) => document.querySelector(".job progress")?.value >= least, (blocks - 8) << 20);
  life = 1;
  await page.reload({ waitUntil: "networkidle" });
  const offered = await checked(page).textContent();
  const got = await saved(page, () => checked(page).click());
  return { ...got, offered, asked: asked[1] };
}

// What a product's page says where no checked download is offered.
async function refused({ url }) {
  const { page } = await visit();
  await page.goto(url, { waitUntil: "networkidle" });
  return { buttons: await page.locator(".actions button").count(), text: await page.locator(".buy").innerText() };
}

// Without script: the plain link.
async function plain({ url }) {
  const { page } = await visit({ javaScriptEnabled: false });
  await page.goto(url);
  const coming = page.waitForEvent("download");
  await page.locator(".actions a").click();
  const download = await coming;
  const hash = createHash("sha256");
  await pipeline(createReadStream(await download.path()), hash);
  return { sha256: hash.digest("hex"), name: download.suggestedFilename(), text: await page.locator("main").innerText() };
}

// For the bench: figures of a download and of queries.
async function measure({ url, file, queries }) {
  const { page } = await visit();
  const result = {};
  if (file) {
    await page.goto(file, { waitUntil: "networkidle" });
    const began = Date.now();
    result.idle = await memory();
    let most = 0;
    const timer = setInterval(async () => (most = Math.max(most, await memory())), 200);
    const coming = page.waitForEvent("download", { timeout: 3_600_000 });
    await checked(page).click();
    await coming;
    clearInterval(timer);
    result.seconds = (Date.now() - began) / 1000;
    result.most = Math.max(most, await memory());
  }
  if (queries) {
    await page.goto(url, { waitUntil: "networkidle" });
    result.queries = await page.evaluate(async (queries) => {
      const { Index, load } = await import(new URL("assets/search.js", location.href));
      const began = performance.now();
      const index = new Index();
      await load(index, "./", () => {});
      const loaded = performance.now() - began;
      const times = queries.map((query) => {
        const from = performance.now();
        const found = index.find(query).length;
        return { query, found, ms: performance.now() - from };
      });
      return { loaded, products: index.products.length, times };
    }, queries);
  }
  return result;
}

// Resident bytes of the largest renderer process.
async function memory() {
  const { readdir, readFile } = await import("node:fs/promises");
  let most = 0;
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      const line = await readFile(`/proc/${pid}/cmdline`, "utf8");
      if (!line.includes("--type=renderer")) continue;
      const status = await readFile(`/proc/${pid}/status`, "utf8");
      most = Math.max(most, Number(/VmRSS:\s+(\d+)/.exec(status)[1]) * 1024);
    } catch {
      // It ended meanwhile.
    }
  }
  return most;
}
