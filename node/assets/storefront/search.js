// Search over the static index: the pieces are loaded on first use, and a query is answered from
// those that are there. Words may be begun only, and may have a typo.

const MAX_SHOWN = 60;
const AT_ONCE = 6;
// Pause in typing after which the address has the query, in ms: browsers limit how often it changes.
const REMEMBERED = 300;

// Weight of a word by where it stands, and of a match by how good it is.
const IN_TITLE = 4, IN_ID = 3, IN_SUMMARY = 1;
const EXACT = 1, BEGUN = 0.7, ONE_TYPO = 0.4, TWO_TYPOS = 0.2;

const MARKS = /\p{M}+/gu;
// Scripts without spaces are searched letter by letter.
const WORD = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]|[\p{L}\p{N}]+/gu;

export function words(text) {
  return text.normalize("NFKD").replace(MARKS, "").toLowerCase().match(WORD) ?? [];
}

// A set of the letters of a word in 32 bits, to pass over words that cannot match.
function letters(word) {
  let set = 0;
  for (let i = 0; i < word.length; i++) set |= 1 << (word.charCodeAt(i) & 31);
  return set;
}

function bits(set) {
  let count = 0;
  for (; set; set &= set - 1) count++;
  return count;
}

function typosAllowed(word) {
  return word.length < 4 ? 0 : word.length < 8 ? 1 : 2;
}

// Typos (a letter more, less, other, or two swapped) between `query` and the best beginning of
// `word`; more than `most` is `most + 1`.
export function typos(query, word, most) {
  const longest = Math.min(word.length, query.length + most);
  let before = [], row = [], next = [];
  for (let j = 0; j <= longest; j++) row[j] = j;
  for (let i = 1; i <= query.length; i++) {
    next = [i];
    let least = i;
    const a = query.charCodeAt(i - 1);
    for (let j = 1; j <= longest; j++) {
      const same = a === word.charCodeAt(j - 1);
      let cost = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (same ? 0 : 1));
      if (i > 1 && j > 1 && a === word.charCodeAt(j - 2) && query.charCodeAt(i - 2) === word.charCodeAt(j - 1)) {
        cost = Math.min(cost, before[j - 2] + 1);
      }
      next[j] = cost;
      if (cost < least) least = cost;
    }
    if (least > most) return most + 1;
    [before, row] = [row, next];
  }
  return Math.min(most + 1, ...row.slice(0, longest + 1));
}

export class Index {
  products = [];
  // word → { word, letters, found: [product, weight, product, weight, …] }
  #words = new Map();

  add(product) {
    const at = this.products.push(product) - 1;
    const weights = new Map();
    const weigh = (text, weight) => {
      for (const word of words(text)) weights.set(word, Math.max(weight, weights.get(word) ?? 0));
    };
    weigh(product.summary ?? "", IN_SUMMARY);
    weigh(product.id, IN_ID);
    weigh(product.title, IN_TITLE);
    for (const [word, weight] of weights) {
      let entry = this.#words.get(word);
      if (!entry) this.#words.set(word, (entry = { word, letters: letters(word), found: [] }));
      entry.found.push(at, weight);
    }
  }

  // Products that have all the words, the best first; when none has, those that have the most.
  find(query) {
    const asked = words(query);
    const scores = new Map();
    for (const word of asked) {
      for (const [at, score] of this.#matches(word)) {
        const known = scores.get(at) ?? { words: 0, score: 0 };
        known.words++;
        known.score += score;
        scores.set(at, known);
      }
    }
    let best = 0;
    for (const { words } of scores.values()) best = Math.max(best, words);
    return [...scores]
      .filter(([, { words }]) => words === best)
      .sort(([a, x], [b, y]) => y.score - x.score || a - b)
      .map(([at]) => this.products[at]);
  }

  // Score of every product for one word.
  #matches(query) {
    const matches = new Map();
    const most = typosAllowed(query);
    const set = letters(query);
    for (const entry of this.#words.values()) {
      let quality = 0;
      if (entry.word.startsWith(query)) {
        quality = entry.word.length === query.length ? EXACT : BEGUN;
      } else if (most && entry.word.length >= query.length - most && bits(set & ~entry.letters) <= most) {
        const found = typos(query, entry.word, most);
        if (found <= most) quality = found < 2 ? ONE_TYPO : TWO_TYPOS;
      }
      if (!quality) continue;
      // A word that few products have says more.
      const rarity = 1 + Math.log2(1 + this.products.length / (entry.found.length / 2)) / 8;
      for (let i = 0; i < entry.found.length; i += 2) {
        const score = quality * entry.found[i + 1] * rarity;
        if (score > (matches.get(entry.found[i]) ?? 0)) matches.set(entry.found[i], score);
      }
    }
    return matches;
  }
}

// Loads all pieces, several at once, and tells after each.
export async function load(index, root, changed) {
  const get = async (file) => {
    const response = await fetch(`${root}search/${file}`);
    if (!response.ok) throw new Error(`${file}: ${response.status}`);
    return response.json();
  };
  const { pieces } = await get("index.json");
  const todo = pieces.map((piece) => piece.file);
  let failed = 0;
  const work = async () => {
    for (let file; (file = todo.shift()); ) {
      try {
        for (const product of (await get(file)).products) index.add(product);
      } catch {
        failed++;
      }
      changed(todo.length > 0, failed);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  changed(false, failed);
}

export function start(field, root) {
  const index = new Index();
  const page = document.getElementById("page");
  const results = document.getElementById("results");
  const title = document.getElementById("found");
  const said = results.querySelector("[role=status]");
  const list = results.querySelector("ul");
  const none = results.querySelector(".empty");
  let loading = true, failed = 0, pause;

  const show = () => {
    const query = field.value.trim();
    page.hidden = query !== "";
    results.hidden = query === "";
    clearTimeout(pause);
    pause = setTimeout(() => remember(query), REMEMBERED);
    if (!query) return;
    const found = index.find(query);
    title.textContent = said.textContent = heading(query, found.length, loading, failed);
    list.replaceChildren(...found.slice(0, MAX_SHOWN).map((product) => card(product, root)));
    none.hidden = loading || found.length > 0;
  };

  field.addEventListener("input", show);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      field.value = "";
      show();
    }
  });
  show();
  const changed = (more, failures) => {
    [loading, failed] = [more, failures];
    show();
  };
  load(index, root, changed).catch(() => changed(false, 1));
  return index;
}

// The address has the query, for those who come back to it.
function remember(query) {
  const url = new URL(location.href);
  query ? url.searchParams.set("q", query) : url.searchParams.delete("q");
  if (url.href !== location.href) history.replaceState(history.state, "", url);
}

function heading(query, count, loading, failed) {
  const more = count > MAX_SHOWN ? `, the best ${MAX_SHOWN} of them here` : "";
  const found = count ? `${count} ${count === 1 ? "product" : "products"} for “${query}”${more}` : `Nothing found for “${query}”`;
  if (loading) return count ? `${found} so far` : `Searching for “${query}”`;
  return failed ? `${found}. A part of the list could not be loaded; reload to try again` : found;
}

function element(name, className, ...inside) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...inside);
  return made;
}

// What would change how the rest of a title is shown is written as in a program, as pages and duka do.
function printable(title) {
  const unprintable = /[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu;
  return title.replace(unprintable, (letter) => `\\u{${letter.codePointAt(0).toString(16)}}`);
}

function card(product, root) {
  const link = element("a", "", element("bdi", "", printable(product.title)));
  link.href = `${root}products/${product.id}/`;
  const about = element("div", "about", element("h2", "", link));
  if (product.summary) about.append(element("p", "line", product.summary));
  about.append(
    element("p", "fine", element("span", "price", product.price ?? "Free"), " ", element("span", "", product.version)),
  );
  return element("li", "card", product.cover ? cover(product, root) : art(product), about);
}

function cover(product, root) {
  const image = element("img", "art");
  image.alt = "";
  image.loading = "lazy";
  image.src = `${root}products/${product.id}/${product.cover}`;
  return image;
}

// The picture that the pages have for a product without a cover; the same colours are in show.rs.
const PALETTES = [
  ["#1f3a4d", "#d9805f", "#f2d9a6"],
  ["#5b2333", "#e0a458", "#f6e7d2"],
  ["#23403a", "#8fb08c", "#f0c987"],
  ["#3b3059", "#b0708f", "#f4c7a1"],
  ["#6b3e26", "#d9b08c", "#2f4b4f"],
  ["#1d4044", "#4f9a94", "#f3b562"],
  ["#45322e", "#c8553d", "#f2efe9"],
  ["#2b3a67", "#7c8fc4", "#e8a87c"],
];

function art(product) {
  let hash = 0x811c9dc5;
  for (const letter of product.id) hash = Math.imul(hash ^ letter.charCodeAt(0), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  hash = (hash ^ (hash >>> 16)) >>> 0;
  const [ground, large, small] = PALETTES[hash >>> 29];
  const x = (hash % 70) + 15, y = ((hash >>> 8) % 70) + 15;
  const svg = (name, attributes, ...inside) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...inside);
    return made;
  };
  return svg("svg", { class: "art", viewBox: "0 0 100 100", preserveAspectRatio: "xMidYMid slice", "aria-hidden": "true" },
    svg("rect", { width: 100, height: 100, fill: ground }),
    svg("circle", { cx: x, cy: y, r: ((hash >>> 16) % 20) + 28, fill: large }),
    svg("circle", { cx: 100 - x, cy: 100 - y, r: ((hash >>> 24) % 10) + 6, fill: small }),
    svg("text", { x: 50, y: 64 }, [...product.title][0]?.toUpperCase() ?? ""),
  );
}
