"use strict";
// The page is whole without this script: it adds comfort only.
const find = (selector) => document.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// The theme: as the system, light, or dark. It is remembered where that is allowed.
const themes = { "": "Theme: as the system", light: "Theme: light", dark: "Theme: dark" };
const themeButton = find("#theme");
function setTheme(theme) {
  if (!(theme in themes)) theme = "";
  document.documentElement.dataset.theme = theme;
  themeButton.textContent = themes[theme];
  document.dispatchEvent(new Event("theme"));
}
let remembered = "";
try { remembered = localStorage.getItem("virt-vnet-theme") || ""; } catch { /* not allowed */ }
themeButton.hidden = false;
setTheme(remembered);
themeButton.addEventListener("click", () => {
  const names = Object.keys(themes);
  const next = names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length];
  setTheme(next);
  try { localStorage.setItem("virt-vnet-theme", next); } catch { /* not allowed */ }
});

// Copying commands.
for (const button of all(".copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const pre = button.parentElement.querySelector("pre");
    let done = false;
    try {
      await navigator.clipboard.writeText(pre.textContent);
      done = true;
    } catch {
      getSelection().selectAllChildren(pre);
      done = document.execCommand("copy");
    }
    button.textContent = done ? "Copied" : "Press Ctrl+C";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

// The table of NICs: what to show, and the names of the rungs.
const nics = find("#nic-table");
if (nics) {
  const filter = find("#filter");
  const rows = all("tbody > tr", nics);
  const texts = rows.map((row) => [...row.cells].filter((c) => c.className !== "ladder").map((c) => c.textContent).join(" ").toLowerCase());
  filter.closest(".filter").hidden = false;
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/);
    let shown = 0;
    rows.forEach((row, i) => {
      row.hidden = !words.every((word) => texts[i].includes(word));
      if (!row.hidden) shown++;
    });
    find("#filter-says").textContent = filter.value ? shown + " of " + rows.length : "";
  });
  const rungs = all(".rung-list tbody th").map((th) => th.textContent);
  const words = { pass: "pass", fail: "fail", unsure: "inconclusive", skip: "nothing to check", none: "not reached" };
  nics.addEventListener("mouseover", (event) => {
    const cell = event.target;
    if (cell.localName !== "i" || cell.title) return;
    cell.title = rungs[[...cell.parentElement.children].indexOf(cell)] + ": " + words[cell.className];
  });
}

// The matrix: what a cell says, also for the keyboard.
const matrix = find("#matrix");
if (matrix) {
  const says = find("#matrix-says");
  says.hidden = false;
  const stops = (row) => all("td", row).map((td) => td.querySelector("button") || td);
  const grid = all("tbody > tr", matrix).map(stops);
  const tell = (cell) => {
    const text = cell.closest("td").title;
    if (text) says.textContent = text + ".";
  };
  const first = grid.flat().find((cell) => cell.closest("td").title);
  for (const cell of grid.flat()) cell.tabIndex = cell === first ? 0 : -1;
  matrix.addEventListener("mouseover", (event) => { if (event.target.closest("tbody td")) tell(event.target); });
  matrix.addEventListener("focusin", (event) => { if (event.target.closest("tbody td")) tell(event.target); });
  matrix.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const row = grid.findIndex((cells) => cells.includes(event.target));
    if (!step || row < 0) return;
    event.preventDefault();
    const next = grid[row + step[0]]?.[grid[row].indexOf(event.target) + step[1]];
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}

// A closer look at the pairs of two networks, drawn on a canvas: there may be
// hundreds of thousands.
const data = find("#pairs-data");
if (data) {
  const { nics: names, group, pairs, why, reasons, letters, words } = JSON.parse(data.textContent);
  const canvas = find("#closer-canvas");
  const base = document.createElement("canvas");
  const looks = { L: "leak", F: "fail", U: "unsure", W: "skip", R: "pass", A: "apart", N: "none" };
  const symbols = { L: "!", F: "✗", U: "?", W: "~", R: "✓", A: "‖", N: "·" };
  let sources = [], targets = [], size = 1, at = null;

  const colour = (look, property) => {
    const probe = document.createElement("span");
    probe.className = "cell " + look;
    canvas.after(probe);
    const value = getComputedStyle(probe)[property];
    probe.remove();
    return value;
  };

  const draw = () => {
    if (!sources.length) return;
    const scale = devicePixelRatio || 1;
    const room = canvas.parentElement.clientWidth;
    size = Math.max(2, Math.min(20, Math.floor(room / targets.length)));
    canvas.width = base.width = targets.length * size * scale;
    canvas.height = base.height = sources.length * size * scale;
    canvas.style.width = targets.length * size + "px";
    canvas.style.height = sources.length * size + "px";
    const context = base.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.font = "700 " + size * 0.7 + "px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    const gap = size > 4 ? 1 : 0;
    // What is wrong comes last and is never smaller than what an eye finds.
    for (const letter of ["N", "R", "A", "U", "F", "L"]) {
      const back = colour(looks[letter], "backgroundColor"), front = colour(looks[letter], "color");
      const least = "UFL".includes(letter) ? Math.max(size, 5) : size;
      sources.forEach((from, y) => targets.forEach((to, x) => {
        if (pairs[from][to] !== letter) return;
        context.fillStyle = letter === "U" && size < 9 ? front : back;
        context.fillRect(x * size + (size - least) / 2, y * size + (size - least) / 2, least - gap, least - gap);
        if (size < 9) return;
        context.fillStyle = front;
        context.fillText(symbols[letter], (x + 0.5) * size, (y + 0.5) * size);
      }));
    }
    show();
  };
  const show = () => {
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(base, 0, 0);
    if (!at) return;
    const scale = devicePixelRatio || 1;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.strokeStyle = colour("", "color");
    context.lineWidth = 2;
    context.strokeRect(at.x * size - 1, at.y * size - 1, size + 1, size + 1);
  };

  const tell = () => {
    const from = sources[at.y], to = targets[at.x];
    const reason = why[from + " " + to];
    find("#closer-says").textContent = names[from] + " to " + names[to] + ": " + words[letters.indexOf(pairs[from][to])] +
      (reason === undefined ? "" : " (" + reasons[reason] + ")") + ".";
  };
  const moveTo = (x, y) => {
    at = { x: Math.max(0, Math.min(targets.length - 1, x)), y: Math.max(0, Math.min(sources.length - 1, y)) };
    show();
    tell();
  };

  for (const button of all("button[data-row]", matrix)) {
    button.addEventListener("click", () => {
      const pick = (index) => group.flatMap((g, i) => (g === Number(index) ? [i] : []));
      sources = pick(button.dataset.row);
      targets = pick(button.dataset.column);
      at = null;
      all("button[aria-pressed]", matrix).forEach((other) => other.removeAttribute("aria-pressed"));
      button.setAttribute("aria-pressed", "true");
      find("#closer").hidden = false;
      find("#closer-title").textContent = button.closest("td").title;
      find("#closer-says").textContent = "Point at a pair, or move with the arrow keys.";
      draw();
      find("#closer-title").focus();
      find("#closer").scrollIntoView({ block: "nearest" });
    });
  }
  canvas.addEventListener("mousemove", (event) => moveTo(Math.floor(event.offsetX / size), Math.floor(event.offsetY / size)));
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    if (at) moveTo(at.x + step[0], at.y + step[1]);
    else moveTo(0, 0);
  });
  document.addEventListener("theme", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("resize", draw);
}
