// Offers checked downloads beside the plain links of a product's page.

// Without a disk to write to, a checked download is held in memory: up to this many bytes.
const MAX_IN_MEMORY = 64 << 20;
const MAX_SOURCES = 6;
// Where the files of downloads are, in what the browser keeps for the origin: on a gateway that is many shops' and
// others' own.
const FOLDER = "duka";
const WAITING = "No gateway answers at the moment; they are asked again";
// Downloads that nobody came back for are removed after this time, in ms.
const KEPT = 14 * 24 * 3600 * 1000;

const hasDisk = isSecureContext && Boolean(navigator.storage?.getDirectory);

export async function offer(root) {
  const links = [...document.querySelectorAll("a[data-cid]")];
  const kept = hasDisk ? await keptFiles().catch(() => new Map()) : new Map();
  for (const link of links) new Offer(link, root, kept.get(link.dataset.cid) ?? 0);
}

async function keptFolder() {
  return (await navigator.storage.getDirectory()).getDirectoryHandle(FOLDER, { create: true });
}

// Names and sizes of what is in the browser from before.
async function keptFiles() {
  const kept = new Map();
  const folder = await keptFolder();
  for await (const [name, handle] of folder.entries()) {
    if (handle.kind !== "file") continue;
    const file = await handle.getFile();
    if (Date.now() - file.lastModified > KEPT) await folder.removeEntry(name).catch(() => {});
    else kept.set(name, file.size);
  }
  return kept;
}

// Bytes of one that are in the browser.
async function keptSize(name) {
  try {
    const file = await (await keptFolder()).getFileHandle(name);
    return (await file.getFile()).size;
  } catch {
    return 0;
  }
}

// Gateways that may have the blocks: the one that shows this page, then those that the shop names.
async function gateways(root, file) {
  const here = new URL(root, location.href);
  const path = here.pathname.match(/^(.*)\/ip[fn]s\/[^/]+\//);
  const subdomain = here.host.match(/^[^.]+\.ip[fn]s\.(.+)$/);
  const host = path ? here.host + path[1] : subdomain?.[1];
  // A host of this shop alone, such as a DNSLink's, gives its files only.
  const own = host ? { base: `${here.protocol}//${host}` } : { file: file.split("?")[0] };
  let named = [];
  try {
    named = (await (await fetch(`${root}shop.json`)).json()).gateways;
  } catch {
    // Then only this one is asked.
  }
  const bases = named.filter((text) => URL.canParse(text)).map((text) => new URL(text));
  // A page over HTTPS may ask nobody without it.
  const usable = bases.filter(({ protocol }) => protocol === "https:" || protocol === here.protocol);
  const others = usable.map((url) => (url.origin + url.pathname).replace(/\/+$/, ""));
  const distinct = new Set(others.filter((base) => base !== own.base));
  return [own, ...[...distinct].map((base) => ({ base }))].slice(0, MAX_SOURCES);
}

class Offer {
  constructor(link, root, kept) {
    Object.assign(this, { link, root, cid: link.dataset.cid, size: Number(link.dataset.size), name: link.dataset.name });
    this.isMain = link.classList.contains("button");
    this.panel = element("div", "job");
    this.panel.setAttribute("role", "group");
    this.panel.setAttribute("aria-label", `Download of ${this.name}`);
    this.button = element("button", this.isMain ? "button" : "button mini");
    this.button.type = "button";
    const row = link.closest("li") ?? link.closest(".actions");
    if (!hasDisk && this.size > MAX_IN_MEMORY) {
      if (this.isMain) row.after(element("p", "fine", tooLarge()));
      return;
    }
    this.button.addEventListener("click", () => this.click());
    if (this.isMain) {
      link.className = "button quiet";
      link.textContent = "Plain link";
      row.prepend(this.button);
      row.after(this.panel);
      this.panel.append(element("p", "fine", hint()));
    } else {
      row.append(this.button, this.panel);
      this.panel.hidden = true;
    }
    this.label(kept ? "Continue the download" : this.isMain ? "Download, checked" : "Checked download");
  }

  label(text) {
    this.button.textContent = text;
    if (!this.isMain) this.button.append(element("span", "off", ` ${this.name}`));
  }

  click() {
    if (this.worker) this.stop("Stopped. What is here stays, and is checked again when you continue.");
    else this.start();
  }

  async start() {
    this.panel.hidden = false;
    this.bar = element("progress", "");
    this.bar.max = Math.max(this.size, 1);
    this.bar.value = 0;
    this.bar.setAttribute("aria-label", `Progress of ${this.name}`);
    this.line = element("p", "fine", "Starting");
    // Told to screen readers: how it ends, not every step.
    this.said = element("p", "off");
    this.said.setAttribute("role", "status");
    this.sources = element("ul", "sources");
    this.sources.setAttribute("role", "list");
    this.panel.replaceChildren(this.bar, this.line, this.said, this.sources);
    this.label("Pause");
    const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this.worker = worker;
    worker.onmessage = ({ data }) => this.hear(data);
    worker.onerror = () => this.stop("This browser cannot check downloads. Use the plain link, or duka get.");
    const lacking = hasDisk ? await lackingRoom(this.size - (await keptSize(this.cid))) : "";
    const sources = await gateways(this.root, this.link.href);
    // It was paused meanwhile, and perhaps started again.
    if (this.worker !== worker) return;
    if (lacking) return this.stop(lacking);
    this.began = performance.now();
    worker.postMessage({ cid: this.cid, size: this.size, folder: hasDisk && FOLDER, sources });
  }

  hear({ done, here, sources, file, failed }) {
    if (failed) this.stop(`Not finished: ${failed}. What is here stays; continue, use the plain link, or duka get.`);
    else if (file) this.finish(file);
    else {
      this.bar.value = done;
      const seconds = (performance.now() - this.began) / 1000;
      const rate = (done - here) / seconds;
      const left = rate > 0 ? `, ${time((this.size - done) / rate)} left` : "";
      const waits = sources.every(({ dropped, resting }) => dropped || resting);
      const more = waits ? `. ${WAITING}` : left;
      if (this.said.textContent !== (waits ? WAITING : "")) this.said.textContent = waits ? WAITING : "";
      this.line.textContent = `${bytes(done)} of ${bytes(this.size)} checked${more}`;
      this.sources.replaceChildren(...sources.map(sourceLine));
    }
  }

  finish(file) {
    this.worker.terminate();
    this.worker = null;
    this.bar.value = this.bar.max;
    this.say(`All ${bytes(this.size)} checked, block by block. It is in your downloads.`);
    this.panel.dataset.state = "done";
    this.label("Save again");
    const save = () => {
      const url = URL.createObjectURL(file);
      const link = element("a", "");
      link.href = url;
      link.download = this.name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(url), 600_000);
    };
    this.click = save;
    if (hasDisk) {
      const free = element("button", "button mini", "Free the room in the browser");
      free.type = "button";
      free.addEventListener("click", async () => {
        await (await keptFolder()).removeEntry(this.cid).catch(() => {});
        free.remove();
        this.button.remove();
        this.say("The copy in the browser is gone; the one in your downloads stays.");
      });
      this.panel.append(free);
    }
    save();
  }

  say(text) {
    this.line.textContent = text;
    this.said.textContent = text;
  }

  stop(why) {
    this.worker?.terminate();
    this.worker = null;
    this.say(why);
    this.panel.dataset.state = "stopped";
    this.label("Continue the download");
  }
}

async function lackingRoom(size) {
  const { quota, usage } = await navigator.storage.estimate();
  return quota - usage >= size
    ? ""
    : `The browser has room for ${bytes(quota - usage)}, and this needs ${bytes(size)}. Use duka get, or the plain link.`;
}

function sourceLine({ name, bytes: got, dropped, resting }) {
  const line = element("li", dropped ? "bad" : "", `${name}: ${bytes(got)}`);
  if (dropped) line.append(`, left out: it ${dropped}`);
  else if (resting) line.append(`, it ${resting.why}, and is asked again${resting.left ? ` in ${time(resting.left / 1000)}` : ""}`);
  return line;
}

function hint() {
  const sure = element("a", "", "what that proves");
  sure.href = "#sure";
  const text = element("span", "", "Every block is checked in your browser (", sure, ").");
  return text;
}

function tooLarge() {
  return location.protocol === "https:"
    ? "This browser cannot store a checked download of this size. Use the plain link, or better duka get, which checks every byte."
    : "Over plain HTTP a browser gives a page no disk, so a file of this size cannot be checked here. Use the plain link, or better duka get, which checks every byte.";
}

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) {
    count /= 1024;
    unit++;
  }
  return `${unit && count < 99.95 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

function time(seconds) {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function element(name, className, ...inside) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...inside);
  return made;
}
