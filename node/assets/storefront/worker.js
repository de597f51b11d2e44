// A checked download: every block is asked of several gateways at once, hashed, and only then
// written. Runs in a worker, as only workers write to disk without copying through memory.

import { Malformed, blockOfCar, fileNode, parseCid } from "./dag.js";
import { MAX_LENGTH, sha256 } from "./sha256.js";

// Requests at once to one gateway.
const LANES = 4;
// A request that brings less than so many bytes within so many ms has failed.
const LEAST = 4 << 10;
const SILENCE = 20_000;
// Who fails rests for a time that doubles up to this, in ms; who says for how long, for so long at most.
const FIRST_REST = 500;
const MAX_REST = 30_000;
const MAX_REST_SAID = 120_000;
// Time in which nobody brings as much after which the download ends, in ms that the browser was awake.
const PATIENCE = 600_000;
// Time after which an idle gateway is given what another one has not answered yet, in ms; a third after twice that,
// and so on.
const SLOW = 1_500;
// Depth of a file's tree; 1,024 links a node are 2^60 bytes in six.
const MAX_DEPTH = 16;
const TELL_EVERY = 200;
// Pause between looks for requests that are silent, in ms.
const WATCH_EVERY = 1_000;
// Bytes after which the browser is made to collect what requests left, and how.
const COLLECT_EVERY = 256 << 20;
const UNUSED = 64 << 20;
// Longest CAR of the nodes on the way to one byte.
const MAX_CAR = 16 << 20;

// A gateway: `base` is where its /ipfs/ is. A host with one site only, such as a DNSLink's, has none; there `file` is
// the URL of the file itself.
class Source {
  constructor({ base, file }) {
    Object.assign(this, { base, file });
    this.name = new URL(base ?? file).host;
    this.bytes = 0;
    this.dropped = "";
    // Rests since it last gave a block, until when, and why.
    this.rests = 0;
    this.restUntil = 0;
    this.why = "";
    this.requests = 0;
  }
  // Whoever rested is asked for one block, and for more once it gave that.
  get isReady() {
    return Date.now() >= this.restUntil && (this.rests === 0 || this.requests === 0);
  }
  // What failed together is one failure.
  rest(began, why, said = 0) {
    if (began < this.restUntil) return;
    const usual = Math.min(MAX_REST, FIRST_REST * 2 ** this.rests);
    this.rests++;
    // Who says to come at once, or named a time that is over, is not asked more often than others.
    this.restUntil = Date.now() + Math.max(usual, Math.min(said, MAX_REST_SAID));
    this.why = why;
  }
  // What to ask for, so that the answer has the block.
  request({ cid, from, length, depth }) {
    const raw = { accept: "application/vnd.ipld.raw" };
    if (this.base) return { url: `${this.base}/ipfs/${cid.text}?format=raw`, headers: raw };
    if (depth === 0) return { url: `${this.file}?format=raw`, headers: raw };
    if (cid.raw) return { url: this.file, headers: { range: `bytes=${from}-${from + length - 1}` } };
    // A node between the root and the leaves: with all on the way to its first byte.
    return {
      url: `${this.file}?format=car&dag-scope=entity&entity-bytes=${from}:${from}`,
      headers: { accept: "application/vnd.ipld.car" },
      isCar: true,
    };
  }
  get told() {
    const { name, bytes, dropped, rests, restUntil, why } = this;
    return { name, bytes, dropped, resting: rests ? { why, left: Math.max(restUntil - Date.now(), 0) } : null };
  }
}

class Download {
  constructor(job, hash, sink) {
    Object.assign(this, { hash, sink });
    this.sources = job.sources.map((source) => new Source(source));
    this.size = job.size;
    // Blocks to get, the next one last. A block is { cid, from, length, depth, tried, requests }.
    this.todo = [this.block(parseCid(job.cid), 0, job.size, 0)];
    this.inFlight = new Set();
    this.done = 0;
    this.here = 0;
    this.told = 0;
    // Time since somebody brought bytes.
    this.silence = 0;
    this.waiting = [];
    // Of bodies that were read.
    this.buffers = [];
    this.uncollected = 0;
  }

  block(cid, from, length, depth) {
    return { cid, from, length, depth, tried: new Set(), requests: new Map(), since: 0 };
  }

  async run() {
    const watch = setInterval(() => this.watch(), WATCH_EVERY);
    const lanes = this.sources.flatMap((source) => Array.from({ length: LANES }, () => this.lane(source)));
    await Promise.all(lanes);
    clearInterval(watch);
    if (this.error) throw this.error;
    if (this.todo.length || this.inFlight.size || this.done !== this.size) throw this.starved();
    this.tell(true);
  }

  get over() {
    return this.error || (this.todo.length === 0 && this.inFlight.size === 0);
  }

  // Asks one gateway for one block after another.
  async lane(source) {
    while (!this.over && !source.dropped) {
      const block = source.isReady && (await this.take(source));
      if (block) await this.ask(source, block);
      else if (!this.over) {
        if (this.todo.length && !this.inFlight.size && this.nobodyHas()) this.fail(this.starved());
        else await this.change(SLOW / 4);
      }
    }
    this.changed();
  }

  // The next block for a gateway: one that nobody asks for, else one that another is slow with.
  async take(source) {
    for (;;) {
      const at = this.todo.findLastIndex((block) => !block.tried.has(source));
      if (at < 0) break;
      const [block] = this.todo.splice(at, 1);
      this.inFlight.add(block);
      block.since = Date.now();
      if (!(await this.isHere(block))) return block;
      this.inFlight.delete(block);
      this.changed();
    }
    for (const block of this.inFlight) {
      // Later ones wait twice as long each: where the visitor's own line is slow, they make it slower.
      const { size } = block.requests;
      const slow = size && Date.now() - block.since > SLOW * 2 ** (size - 1);
      if (slow && !block.requests.has(source) && !block.tried.has(source)) return block;
    }
    return null;
  }

  // Whether the bytes of a block are on disk already, from before. They are hashed again.
  async isHere(block) {
    const { cid, from, length } = block;
    if (cid.inline) {
      this.use(block, cid.digest);
      return true;
    }
    if (!cid.raw || length > MAX_LENGTH || from + length > this.sink.before) return false;
    const bytes = this.sink.read(from, length);
    if (!bytes || !this.matches(cid, bytes)) return false;
    this.done += length;
    this.here += length;
    // Others get their turn when this takes long.
    if (Date.now() - this.told > TELL_EVERY) {
      this.tell();
      await new Promise((resume) => setTimeout(resume));
    }
    return true;
  }

  matches(cid, bytes) {
    const digest = this.hash(bytes);
    return cid.digest.every((byte, i) => byte === digest[i]);
  }

  async ask(source, block) {
    const began = Date.now();
    const request = { stop: new AbortController(), heard: began, bytes: 0 };
    block.requests.set(source, request);
    source.requests++;
    let bytes;
    try {
      bytes = await this.fetch(source, block, request);
    } catch (error) {
      // Another one was faster.
      if (!this.inFlight.has(block)) return;
      this.failed(source, block, error, began);
    } finally {
      block.requests.delete(source);
      source.requests--;
    }
    if (bytes && this.inFlight.has(block)) this.took(source, block, bytes);
    if (bytes) this.used(bytes);
    if (!bytes && this.inFlight.has(block) && block.requests.size === 0) {
      // Others first: it may be this block that a gateway has trouble with.
      this.inFlight.delete(block);
      this.todo.unshift(block);
    }
    this.changed();
  }

  took(source, block, bytes) {
    if (!this.matches(block.cid, bytes)) {
      source.dropped = "sent wrong bytes";
      this.putBack(block);
      this.tell(true);
      return;
    }
    source.rests = 0;
    source.why = "";
    this.silence = 0;
    source.bytes += bytes.length;
    this.collect(bytes.length);
    this.inFlight.delete(block);
    for (const other of block.requests.values()) other.stop.abort();
    try {
      this.use(block, bytes);
    } catch (error) {
      this.fail(error);
    }
    this.tell();
  }

  putBack(block) {
    if (block.requests.size) return;
    this.inFlight.delete(block);
    this.todo.push(block);
  }

  // Writes what a checked block holds, and asks for what it leads to.
  use({ cid, from, length, depth }, bytes) {
    const node = fileNode(cid, bytes);
    if (node.length !== length) throw new Malformed("a part is not as long as the whole says");
    if (depth > MAX_DEPTH) throw new Malformed("the tree of the file is too deep");
    if (node.data.length) this.sink.write(from, node.data);
    this.done += node.data.length;
    let at = from + node.data.length;
    const blocks = node.children.map((child) => {
      const block = this.block(child.cid, at, child.length, depth + 1);
      at += child.length;
      return block;
    });
    this.todo.push(...blocks.reverse());
  }

  async fetch(source, block, request) {
    const { url, headers, isCar } = source.request(block);
    const response = await fetch(url, {
      headers,
      cache: "no-store",
      credentials: "omit",
      referrerPolicy: "no-referrer",
      signal: request.stop.signal,
    });
    if (!response.ok) {
      response.body?.cancel().catch(() => {});
      const after = response.headers.get("retry-after");
      const said = Number(after) * 1000 || Date.parse(after) - Date.now() || 0;
      throw Object.assign(new Error(`answered ${response.status}`), { status: response.status, said });
    }
    const most = isCar ? MAX_CAR : MAX_LENGTH;
    const bytes = await this.body(response, block.cid.raw ? Math.min(block.length, most) : most, request);
    if (bytes) return isCar ? blockOfCar(block.cid, bytes) : bytes;
    // More than the block can have: wrong bytes, whatever they are.
    request.stop.abort();
    if (isCar) throw new Error("sent more than was asked for");
    return new Uint8Array(0);
  }

  // Ends requests of which next to nothing was heard for long, and the download when that is so of all. One timer for all: one
  // a request, set again for every piece of a body, is more than the browser collects meanwhile.
  watch() {
    this.silence += WATCH_EVERY;
    if (this.silence >= PATIENCE) return this.fail(new Error(`nothing came for ${PATIENCE / 60_000} minutes${this.answers}`));
    this.tell();
    const since = Date.now() - SILENCE;
    for (const block of this.inFlight) {
      for (const { stop, heard } of block.requests.values()) if (heard < since) stop.abort();
    }
  }

  // All of a body, in a buffer that was used before where there is one: blocks fill the memory faster than it is
  // collected. Nothing when there is more than `room`.
  async body(response, room, request) {
    let buffer = room <= MAX_LENGTH ? (this.buffers.pop() ?? new ArrayBuffer(MAX_LENGTH + 1)) : new ArrayBuffer(room + 1);
    let length = 0;
    const reader = bodyReader(response.body);
    for (;;) {
      const { done, value } = await reader.read(new Uint8Array(buffer, length, room + 1 - length));
      if (value) buffer = value.buffer;
      if (done) return new Uint8Array(buffer, 0, length);
      length += value.length;
      request.bytes += value.length;
      if (request.bytes >= LEAST) {
        Object.assign(request, { heard: Date.now(), bytes: 0 });
        this.silence = 0;
      }
      if (length > room) return null;
    }
  }

  // Takes a buffer back.
  used({ buffer }) {
    if (buffer.byteLength === MAX_LENGTH + 1) this.buffers.push(buffer);
  }

  // Every request leaves some kilobytes outside of the script's heap, whose size alone decides when the browser
  // collects: gigabytes come before it does. Room that is asked for counts, and is never used.
  collect(length) {
    this.uncollected += length;
    if (this.uncollected < COLLECT_EVERY) return;
    this.uncollected = 0;
    try {
      new ArrayBuffer(UNUSED);
    } catch {
      // Where there is no room, it has collected before it said so.
    }
  }

  failed(source, block, { status, message, said }, began) {
    if (isRefusal(status)) {
      // It does not give this one, and may give others.
      block.tried.add(source);
      source.why = message;
    } else source.rest(began, status ? message : "does not answer", said);
    this.tell();
  }

  nobodyHas() {
    const alive = this.sources.filter((source) => !source.dropped);
    return this.todo.every((block) => alive.every((source) => block.tried.has(source)));
  }

  starved() {
    return new Error(`no gateway that was asked gives all of it at the moment${this.answers}`);
  }

  // What those said who did not give what they were asked for.
  get answers() {
    const said = this.sources.filter(({ dropped, why }) => dropped || why);
    return said.length ? ` (${said.map(({ name, dropped, why }) => `${name} ${dropped || why}`).join(", ")})` : "";
  }

  fail(error) {
    this.error ??= error;
    for (const block of this.inFlight) for (const { stop } of block.requests.values()) stop.abort();
    this.changed();
  }

  // Waits until something changes, at most so many ms.
  change(most) {
    return new Promise((resume) => {
      this.waiting.push(resume);
      setTimeout(resume, most);
    });
  }

  changed() {
    for (const resume of this.waiting.splice(0)) resume();
  }

  tell(now) {
    if (!now && Date.now() - this.told < TELL_EVERY) return;
    this.told = Date.now();
    postMessage({ done: this.done, here: this.here, sources: this.sources.map((source) => source.told) });
  }
}

// Whether a gateway says the same however often it is asked. 408, 425 and 429 mean: later.
function isRefusal(status) {
  return status >= 400 && status < 500 && ![408, 425, 429].includes(status);
}

// A reader into buffers; where browsers have none, one that copies.
function bodyReader(body) {
  try {
    return body.getReader({ mode: "byob" });
  } catch {
    return copyingReader(body.getReader());
  }
}

function copyingReader(reader) {
  let rest = new Uint8Array(0);
  return {
    async read(into) {
      while (!rest.length) {
        const { done, value } = await reader.read();
        if (done) return { done, value: into.subarray(0, 0) };
        rest = value;
      }
      const part = rest.subarray(0, into.length);
      rest = rest.subarray(part.length);
      into.set(part);
      return { done: false, value: into.subarray(0, part.length) };
    },
  };
}

// A file of the browser's own, which stays over a reload.
async function disk(name, cid) {
  const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle(name, { create: true });
  const file = await folder.getFileHandle(cid, { create: true });
  const handle = await file.createSyncAccessHandle();
  const scratch = new Uint8Array(MAX_LENGTH);
  return {
    before: handle.getSize(),
    read(at, length) {
      const bytes = scratch.subarray(0, length);
      return handle.read(bytes, { at }) === length ? bytes : null;
    },
    write(at, bytes) {
      if (handle.write(bytes, { at }) !== bytes.length) throw new Error("the browser has no room left");
    },
    async finish(size) {
      handle.truncate(size);
      handle.flush();
      handle.close();
      return file.getFile();
    },
    stop() {
      handle.flush();
      handle.close();
    },
  };
}

function memory(size) {
  const all = new Uint8Array(size);
  return {
    before: 0,
    write: (at, bytes) => all.set(bytes, at),
    finish: () => new Blob([all]),
    stop() {},
  };
}

onmessage = async ({ data: job }) => {
  let sink;
  try {
    const wasm = await fetch(new URL("sha256.wasm", import.meta.url));
    const hash = await sha256(await wasm.arrayBuffer());
    sink = job.folder ? await disk(job.folder, job.cid) : memory(job.size);
    await new Download(job, hash, sink).run();
    postMessage({ file: await sink.finish(job.size) });
  } catch (error) {
    try {
      sink?.stop();
    } finally {
      const inUse = error.name === "NoModificationAllowedError";
      postMessage({ failed: inUse ? "another tab is downloading it" : error.message });
    }
  }
};
