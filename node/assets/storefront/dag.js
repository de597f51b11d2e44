// CIDs, dag-pb and UnixFS files: as much of them as a download needs. Whatever is not exactly as it
// should be throws.

const RAW = 0x55, DAG_PB = 0x70;
const SHA2_256 = 0x12, IDENTITY = 0x00;
const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";
const BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const UNIXFS_RAW = 0, UNIXFS_FILE = 2;
// Numbers above this are not exact.
const MAX_NUMBER = Number.MAX_SAFE_INTEGER;

export class Malformed extends Error {}

function check(holds, what) {
  if (!holds) throw new Malformed(what);
}

// Reads bytes from the front.
class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }
  get done() {
    return this.at === this.bytes.length;
  }
  number() {
    let value = 0, factor = 1;
    for (;;) {
      check(this.at < this.bytes.length && factor <= 2 ** 49, "a number is cut off or too large");
      const byte = this.bytes[this.at++];
      value += (byte & 127) * factor;
      factor *= 128;
      if (byte < 128) break;
    }
    check(value <= MAX_NUMBER, "a number is too large");
    return value;
  }
  take(length) {
    check(length <= this.bytes.length - this.at, "bytes are cut off");
    return this.bytes.subarray(this.at, (this.at += length));
  }
}

// A protobuf message as [field, value] pairs: numbers of wire type 0, bytes of wire type 2.
function fields(bytes) {
  const reader = new Reader(bytes);
  const found = [];
  while (!reader.done) {
    const key = reader.number();
    const type = key % 8;
    check(type === 0 || type === 2, "an unknown kind of field");
    found.push([(key - type) / 8, type === 0 ? reader.number() : reader.take(reader.number())]);
  }
  return found;
}

function base32(bytes) {
  let text = "", held = 0, bits = 0;
  for (const byte of bytes) {
    held = (held << 8) | byte;
    bits += 8;
    while (bits >= 5) text += BASE32[(held >>> (bits -= 5)) & 31];
    held &= (1 << bits) - 1;
  }
  return bits ? text + BASE32[(held << (5 - bits)) & 31] : text;
}

function fromBase32(text) {
  const bytes = [];
  let held = 0, bits = 0;
  for (const letter of text) {
    const value = BASE32.indexOf(letter);
    check(value >= 0, "no base 32");
    held = ((held << 5) | value) & 0xfff;
    bits += 5;
    if (bits >= 8) bytes.push((held >>> (bits -= 8)) & 255);
  }
  return Uint8Array.from(bytes);
}

function fromBase58(text) {
  const bytes = [];
  for (const letter of text) {
    let carry = BASE58.indexOf(letter);
    check(carry >= 0, "no base 58");
    for (let i = 0; i < bytes.length; i++) {
      carry += bytes[i] * 58;
      bytes[i] = carry & 255;
      carry >>= 8;
    }
    if (carry) bytes.push(carry);
  }
  for (const letter of text) {
    if (letter !== "1") break;
    bytes.push(0);
  }
  return Uint8Array.from(bytes.reverse());
}

// A CID from its bytes: { text, raw, hash, digest }.
function cid(bytes) {
  let codec = DAG_PB, multihash = bytes;
  // CIDv0 is the bare SHA-256.
  if (!(bytes.length === 34 && bytes[0] === SHA2_256 && bytes[1] === 32)) {
    const reader = new Reader(bytes);
    check(reader.number() === 1, "an unknown version of CID");
    codec = reader.number();
    multihash = reader.take(bytes.length - reader.at);
  }
  check(codec === RAW || codec === DAG_PB, "not a part of a file");
  const reader = new Reader(multihash);
  const hash = reader.number();
  const digest = reader.take(reader.number());
  check(reader.done, "a CID has bytes left over");
  check(hash === IDENTITY || (hash === SHA2_256 && digest.length === 32), "an unknown hash function");
  const text = "b" + base32([1, codec, ...multihash]);
  // Copied: the bytes that it was read from are used again.
  return { text, raw: codec === RAW, inline: hash === IDENTITY, digest: digest.slice() };
}

export function parseCid(text) {
  if (text.startsWith("Qm")) return cid(fromBase58(text));
  check(text.startsWith("b"), "an unknown form of CID");
  return cid(fromBase32(text.slice(1)));
}

// The bytes of a block in a CAR, not checked.
export function blockOfCar({ digest }, car) {
  const reader = new Reader(car);
  reader.take(reader.number());
  while (!reader.done) {
    const section = reader.take(reader.number());
    // The digest ends the CID, which is at most 36 bytes here.
    for (const length of [34, 36]) {
      const found = section.subarray(length - 32, length);
      if (digest.length === 32 && digest.every((byte, i) => byte === found[i])) return section.slice(length);
    }
  }
  throw new Malformed("a CAR without the block");
}

// A block of a file: { data, children: [{ cid, length }], length }. `length` is of everything below.
export function fileNode(id, bytes) {
  if (id.raw) return { data: bytes, children: [], length: bytes.length };
  let message;
  const links = [];
  for (const [field, value] of fields(bytes)) {
    if (field === 1) message = value;
    else if (field === 2) links.push(value);
    else check(false, "an unknown part of a node");
  }
  check(message instanceof Uint8Array, "a node without data");
  let kind, data = new Uint8Array(0), length;
  const lengths = [];
  for (const [field, value] of fields(message)) {
    if (field === 1) kind = value;
    else if (field === 2) data = value;
    else if (field === 3) length = value;
    else if (field === 4 && value instanceof Uint8Array) {
      const packed = new Reader(value);
      while (!packed.done) lengths.push(packed.number());
    } else if (field === 4) lengths.push(value);
  }
  check(kind === UNIXFS_FILE || kind === UNIXFS_RAW, "not a file");
  check(lengths.length === links.length, "a node does not say how long its parts are");
  const children = links.map((link, i) => {
    const hash = fields(link).find(([field]) => field === 1)?.[1];
    check(hash instanceof Uint8Array, "a link to nothing");
    return { cid: cid(hash), length: lengths[i] };
  });
  const sum = lengths.reduce((all, one) => all + one, data.length);
  check(sum <= MAX_NUMBER && (length ?? sum) === sum, "the parts are not as long as the whole");
  return { data, children, length: sum };
}
