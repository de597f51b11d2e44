// A download by the storefront's worker, with gateways that behave as they are told and a clock that jumps to
// whatever comes next: download.mjs WORKER JSON prints how it ended, as JSON.

import { createHash } from "node:crypto";
import { registerHooks } from "node:module";
import { pathToFileURL } from "node:url";

// What is compiled for browsers.
const HASH = `import { createHash } from "node:crypto";
export const MAX_LENGTH = 2 << 20;
export const sha256 = async () => (bytes) => createHash("sha256").update(bytes).digest();`;
const HASH_URL = `data:text/javascript,${encodeURIComponent(HASH)}`;
const LEAF = 256 << 10;
// Time that a good gateway takes for a block, in ms.
const USUAL = 200;
// Turns of the loop after which nothing is left that does not wait for the clock.
const TURNS = 20;

const [, , worker, json] = process.argv;
const { leaves, limit, gateways } = JSON.parse(json);

const sleepUntil = new Map();
let now = Date.now();
let lastTimer = 0;
Date.now = () => now;
globalThis.setTimeout = (call, ms = 0) => {
  sleepUntil.set(++lastTimer, { at: now + ms, call });
  return lastTimer;
};
globalThis.setInterval = (call, ms) => {
  const id = ++lastTimer;
  const again = () => {
    sleepUntil.set(id, { at: now + ms, call: again });
    call();
  };
  sleepUntil.set(id, { at: now + ms, call: again });
  return id;
};
globalThis.clearTimeout = globalThis.clearInterval = (id) => sleepUntil.delete(id);

const pause = (ms) => new Promise((resume) => setTimeout(resume, ms));
const numbers = (...values) => values.flatMap((value) => {
  const bytes = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return [...bytes, value];
});
const part = (field, bytes) => [...numbers(field * 8 + 2, bytes.length), ...bytes];

const blocks = new Map();
function put(codec, bytes) {
  const id = [1, codec, 0x12, 32, ...createHash("sha256").update(bytes).digest()];
  const bits = id.map((byte) => byte.toString(2).padStart(8, "0")).join("");
  const text = `b${bits.match(/.{1,5}/g).map((five) => "abcdefghijklmnopqrstuvwxyz234567"[parseInt(five.padEnd(5, "0"), 2)]).join("")}`;
  blocks.set(text, bytes);
  return { id, text };
}

const file = Buffer.alloc(leaves * LEAF);
for (let at = 0; at < leaves; at++) file.writeUInt32BE(at, at * LEAF);
const ids = Array.from({ length: leaves }, (_, at) => put(0x55, file.subarray(at * LEAF, (at + 1) * LEAF)).id);
const links = ids.flatMap((id) => part(2, [...part(1, id), ...part(2, []), ...numbers(3 * 8, LEAF)]));
const lengths = ids.flatMap(() => numbers(4 * 8, LEAF));
const root = put(0x70, Uint8Array.from([...links, ...part(1, [...numbers(8, 2, 3 * 8, file.length), ...lengths])])).text;

// How gateways answer, by their `kind`.
const kinds = {
  async good(bytes) {
    await pause(USUAL);
    return answer(200, bytes);
  },
  async refuses(_, { status, after }) {
    await pause(USUAL);
    return answer(status, new Uint8Array(0), after === undefined ? {} : { "retry-after": after });
  },
  // One byte of every answer each `every` ms.
  async drips(bytes, { every }) {
    const body = new ReadableStream({
      type: "bytes",
      async pull(controller) {
        await pause(every);
        controller.enqueue(Uint8Array.of(bytes[0]));
        bytes = bytes.subarray(1);
      },
    });
    return { ok: true, status: 200, headers: new Headers(), body };
  },
};

function answer(status, bytes, headers) {
  const body = new ReadableStream({
    type: "bytes",
    start(controller) {
      if (bytes.length) controller.enqueue(Uint8Array.from(bytes));
      controller.close();
    },
  });
  return { ok: status === 200, status, headers: new Headers(headers), body };
}

const asked = gateways.map(() => 0);
globalThis.fetch = async (url, options) => {
  if (String(url).endsWith(".wasm")) return new Response();
  const { hostname, pathname } = new URL(url);
  const at = Number(hostname.split(".")[0].slice(1));
  asked[at]++;
  const signal = options.signal;
  const stopped = new Promise((_, refuse) => signal.addEventListener("abort", () => refuse(signal.reason)));
  stopped.catch(() => {});
  const response = await Promise.race([kinds[gateways[at].kind](blocks.get(pathname.split("/").at(-1)), gateways[at]), stopped]);
  const reader = response.body.getReader({ mode: "byob" });
  const body = { getReader: () => ({ read: (into) => Promise.race([reader.read(into), stopped]) }), cancel: async () => {} };
  return { ...response, body };
};

let end;
globalThis.onmessage = null;
globalThis.postMessage = ({ file: got, failed }) => {
  if (got) end = got.arrayBuffer().then((bytes) => ({ isWhole: file.equals(Buffer.from(bytes)) }));
  if (failed) end = { failed };
};

registerHooks({
  resolve: (name, context, next) => (name === "./sha256.js" ? { url: HASH_URL, shortCircuit: true } : next(name, context)),
});
await import(pathToFileURL(worker));
const began = now;
const sources = gateways.map((_, at) => ({ base: `http://g${at}.example` }));
globalThis.onmessage({ data: { cid: root, size: file.length, sources } });
while (!end && now - began < limit) {
  for (let turn = 0; turn < TURNS && !end; turn++) await new Promise((resume) => setImmediate(resume));
  const [id, next] = [...sleepUntil].reduce((one, other) => (other[1].at < one[1].at ? other : one));
  sleepUntil.delete(id);
  now = Math.max(now, next.at);
  next.call();
}
console.log(JSON.stringify({ ...(await end), ms: now - began, asked }));
process.exit();
