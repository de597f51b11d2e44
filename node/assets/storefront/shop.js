// What every page can do with a script: it opens search, copies commands, and offers checked
// downloads. The parts that do the work are loaded when somebody uses them.

const root = document.documentElement.dataset.root;

const form = document.querySelector(".search");
const field = form.elements.q;
form.hidden = false;

let search;
function openSearch() {
  search ??= import("./search.js").then((part) => part.start(field, root));
  return search;
}
field.addEventListener("focus", openSearch, { once: true });
form.addEventListener("submit", (event) => {
  event.preventDefault();
  openSearch();
});
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, [contenteditable]");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    field.focus();
  }
});
const asked = new URLSearchParams(location.search).get("q");
if (asked) {
  field.value = asked;
  openSearch();
}

for (const command of document.querySelectorAll(".cmd")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button mini";
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy the command");
  button.addEventListener("click", () => copy(command.querySelector("code"), button));
  command.append(button);
}

async function copy(code, button) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    // No clipboard without HTTPS: select it, so that the keyboard copies it.
    getSelection().selectAllChildren(code);
    button.textContent = "Selected";
  }
}

if (document.querySelector("[data-cid]")) {
  import("./download.js").then((part) => part.offer(root));
}
