// A visitor of a shop in headless Chromium: storefront.mjs CHROMIUM SCENARIO JSON prints what it saw, as JSON.

import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createReadStream } from "node:fs";
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { chromium } from "playwright-core";

const PATIENCE = 120_000;
// Longest block that the pages hash.
const LONGEST = 2 << 20;
const BLOCKS = /\/ipfs\/[a-z0-9]+\?format=raw$|[?&]format=raw$/;

const [, , executablePath, scenario, json] = process.argv;
const what = JSON.parse(json);
const scenarios = { look, search, fetchFile, resume, interrupted, paused, hasty, shared, refused, plain, versions, hashes, measure };

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
  const scripts = scriptsOf(page);
  await page.goto(url, { waitUntil: "networkidle" });
  const before = await scripts();
  await page.keyboard.press("/");
  await page.keyboard.type(query);
  await page.waitForFunction(() => / for “/.test(document.getElementById("found").textContent) && !/so far|Searching/.test(document.getElementById("found").textContent));
  const titles = await page.locator("#results li a").allTextContents();
  await page.waitForURL(/[?]q=/);
  const again = page.url();
  await page.locator("#results li a").first().focus();
  await page.keyboard.press("Enter");
  await page.waitForURL("**/products/**");
  return { titles, again, arrived: await page.locator("h1").first().textContent(), before, complaints };
}

// Gives a function that tells the bytes of script that a page has loaded since: in files, in its workers, and in itself.
function scriptsOf(page) {
  const files = [];
  page.on("response", (response) => {
    const isScript = response.request().resourceType() === "script" || /script|wasm/.test(response.headers()["content-type"] ?? "");
    if (isScript && response.ok()) files.push(response.body());
  });
  return async () => {
    const inside = await page.evaluate(() => [...document.scripts].reduce((all, { textContent }) => all + textContent.length, 0));
    return (await Promise.all(files)).reduce((all, one) => all + one.length, inside);
  };
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

// A download during which no gateway can be reached for some time.
async function interrupted({ url, blocks, ms }) {
  const { context, page } = await visit();
  let asked = 0;
  let until = 0;
  await context.route(BLOCKS, (route) => {
    if (++asked === blocks) until = Date.now() + ms;
    return Date.now() < until ? route.abort("internetdisconnected") : route.continue();
  });
  await page.goto(url, { waitUntil: "networkidle" });
  const click = async () => {
    await checked(page).click();
    await page.locator(".job .fine", { hasText: "No gateway answers" }).waitFor();
  };
  return saved(page, click);
}

// A download that is paused after so many blocks and goes on in the same page, where the browser has so much room.
async function paused({ url, blocks, quota }) {
  const { context, page, complaints } = await visit();
  await page.addInitScript((quota) => {
    navigator.storage.estimate = async () => {
      const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("duka", { create: true });
      let usage = 0;
      for await (const file of folder.values()) usage += (await file.getFile()).size;
      return { quota, usage };
    };
  }, quota);
  let asked = 0;
  let isPaused = false;
  await context.route(BLOCKS, (route) => {
    if (++asked <= blocks || isPaused) return route.continue();
  });
  await page.goto(url, { waitUntil: "networkidle" });
  await checked(page).click();
  await page.waitForFunction((least) => document.querySelector(".job progress")?.value >= least, (blocks - 8) << 20);
  await checked(page).click();
  isPaused = true;
  return { ...(await saved(page, () => checked(page).click())), complaints };
}

// A download that is paused and continued while the browser is still asked for room.
async function hasty({ url }) {
  const { page, complaints } = await visit();
  await page.addInitScript(() => {
    const estimate = navigator.storage.estimate.bind(navigator.storage);
    const held = [];
    navigator.storage.estimate = async () => {
      await new Promise((resume) => held.push(resume));
      return estimate();
    };
    globalThis.asked = held;
    globalThis.jobs = 0;
    const send = Worker.prototype.postMessage;
    Worker.prototype.postMessage = function (...job) {
      globalThis.jobs++;
      return send.apply(this, job);
    };
  });
  await page.goto(url, { waitUntil: "networkidle" });
  const asks = (times) => page.waitForFunction((times) => globalThis.asked.length === times, times);
  for (const times of [1, 2]) {
    await checked(page).click();
    await asks(times);
    if (times === 1) await checked(page).click();
  }
  const got = await saved(page, () => page.evaluate(() => globalThis.asked.forEach((resume) => resume())));
  return { ...got, jobs: await page.evaluate(() => globalThis.jobs), complaints };
}

// A download on an origin whose disk has things of others, old ones among them, and what is there afterwards.
async function shared({ url }) {
  const { page } = await visit();
  const there = () =>
    page.evaluate(async () => {
      const names = [];
      const root = await navigator.storage.getDirectory();
      for await (const [name, { kind }] of root.entries()) names.push(`${name} ${kind}`);
      return names.sort();
    });
  await page.goto(url, { waitUntil: "networkidle" });
  await page.evaluate(async () => {
    const root = await navigator.storage.getDirectory();
    await root.getFileHandle("notes", { create: true });
    await root.getDirectoryHandle("other", { create: true });
    const own = await root.getDirectoryHandle("duka", { create: true });
    await own.getDirectoryHandle("folder", { create: true });
    const month = 30 * 24 * 3600 * 1000;
    const { lastModified } = await (await root.getFileHandle("notes")).getFile();
    sessionStorage.later = lastModified + month;
  });
  // A month later.
  await page.addInitScript(() => {
    const later = Number(sessionStorage.later);
    if (later) Date.now = () => later;
  });
  await page.reload({ waitUntil: "networkidle" });
  const got = await saved(page, () => checked(page).click());
  return { ...got, there: await there() };
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

// The versions that a product's page lists, each with what its link gives.
async function versions({ url }) {
  const { page } = await visit();
  await page.goto(url, { waitUntil: "networkidle" });
  const seen = [];
  for (const row of await page.locator(".versions li").all()) {
    const given = await row.locator("a").first().evaluate(async ({ href }) => {
      const reader = new FileReader();
      reader.readAsDataURL(await (await fetch(href)).blob());
      await new Promise((resume) => (reader.onload = resume));
      return reader.result;
    });
    const bytes = Buffer.from(given.slice(given.indexOf(",") + 1), "base64");
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    const text = bytes.length < 1 << 20 ? bytes.toString() : "";
    seen.push({ version: await row.locator("strong").textContent(), sha256, text });
  }
  return seen;
}

// SHA-256 as the pages have it: the digests of given messages, and the lengths of random ones whose digests are not
// those of node.
async function hashes({ url, given }) {
  // The page itself may not run WASM; its worker may.
  const { page } = await visit({ bypassCSP: true });
  await page.goto(url);
  // The longest first, so that shorter ones find its rest in memory.
  const lengths = [LONGEST, ...Array(301).keys(), LONGEST - 1, LONGEST - 64, 1 << 20];
  const random = lengths.map((length) => randomBytes(length));
  const messages = [...given.map(({ hex, times }) => Buffer.from(hex.repeat(times), "hex")), ...random];
  const digests = await page.evaluate(async (messages) => {
    const { sha256 } = await import(new URL("assets/sha256.js", location.href));
    const wasm = await fetch(new URL("assets/sha256.wasm", location.href));
    const hash = await sha256(await wasm.arrayBuffer());
    return messages.map((message, at) => {
      const bytes = Uint8Array.from(atob(message), (letter) => letter.charCodeAt(0));
      // Somewhere within a larger buffer, as parts of a block are.
      const around = new Uint8Array(bytes.length + 16).fill(0xff);
      around.set(bytes, at % 16);
      const digest = hash(around.subarray(at % 16, (at % 16) + bytes.length));
      return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    });
  }, messages.map((message) => message.toString("base64")));
  const ofRandom = digests.slice(given.length);
  const wrong = lengths.filter((_, at) => ofRandom[at] !== createHash("sha256").update(random[at]).digest("hex"));
  return { given: digests.slice(0, given.length), random: random.length, wrong };
}

// For the bench: figures of a download, of the scripts before search, and of queries.
async function measure({ url, file, queries }) {
  const download = await measureDownload(file);
  const scripts = [];
  for (const place of [url, file]) {
    const { context, page } = await visit();
    const loaded = scriptsOf(page);
    await page.goto(place, { waitUntil: "networkidle" });
    scripts.push(await loaded());
    await context.close();
  }
  const { page } = await visit();
  await page.goto(url, { waitUntil: "networkidle" });
  const search = await page.evaluate(async (queries) => {
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
  return { ...download, scripts, search };
}

// In a browser without playwright: the inspector that playwright turns on keeps what a page loads in its memory.
async function measureDownload(url) {
  const profile = await mkdtemp(join(tmpdir(), "visitor-"));
  const flags = ["--headless", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"];
  const chromium = spawn(executablePath, [...args, ...flags, `--user-data-dir=${profile}`, "about:blank"], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  try {
    const page = await inspect(await address(chromium), url);
    const text = () => page("document.querySelector('.job')?.textContent ?? ''");
    while (!(await page("Boolean(document.querySelector('.actions button'))"))) await pause(100);
    const idle = await memory(chromium.pid);
    let most = idle;
    const began = Date.now();
    await page("document.querySelector('.actions button').click()");
    while (!/block by block|Not finished/.test(await text())) {
      most = Math.max(most, await memory(chromium.pid));
      await pause(100);
    }
    return { idle, most, seconds: (Date.now() - began) / 1000, text: await text() };
  } finally {
    chromium.kill();
    await once(chromium, "exit");
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

function pause(ms) {
  return new Promise((resume) => setTimeout(resume, ms));
}

async function address(chromium) {
  let said = "";
  for await (const part of chromium.stderr) {
    said += part;
    const found = /ws:\/\/\S+/.exec(said);
    if (found) return found[0];
  }
  throw new Error(said);
}

// Opens a page and gives a function that evaluates in it.
async function inspect(address, url) {
  const socket = new WebSocket(address);
  await new Promise((resume) => (socket.onopen = resume));
  const waiting = new Map();
  socket.onmessage = ({ data }) => {
    const { id, result } = JSON.parse(data);
    waiting.get(id)?.(result);
  };
  let last = 0;
  const call = (method, params, sessionId) =>
    new Promise((resume) => {
      waiting.set(++last, resume);
      socket.send(JSON.stringify({ id: last, method, params, sessionId }));
    });
  const { targetId } = await call("Target.createTarget", { url });
  const { sessionId } = await call("Target.attachToTarget", { targetId, flatten: true });
  return async (expression) =>
    (await call("Runtime.evaluate", { expression, returnByValue: true }, sessionId)).result?.value;
}

// Memory of the largest renderer of a browser, in bytes: its share of what is resident.
async function memory(browser) {
  let most = 0;
  for (const pid of await readdir("/proc")) {
    try {
      const line = await readFile(`/proc/${pid}/cmdline`, "utf8");
      if (!line.includes("--type=renderer") || !(await descends(pid, browser))) continue;
      const shares = await readFile(`/proc/${pid}/smaps_rollup`, "utf8");
      most = Math.max(most, Number(/^Pss:\s+(\d+)/m.exec(shares)[1]) * 1024);
    } catch {
      // No process, or it ended meanwhile.
    }
  }
  return most;
}

async function descends(pid, ancestor) {
  for (let at = Number(pid); at > 1; ) {
    if (at === ancestor) return true;
    at = Number(/^PPid:\s+(\d+)/m.exec(await readFile(`/proc/${at}/status`, "utf8"))[1]);
  }
  return false;
}
