// Moving, the list, the details, and what hands do.
// -- moving

function view(from, size) {
  const total = Math.max(shown.length, 1);
  width = clamp(size, Math.min(4, total), total);
  left = clamp(from, 0, total - width);
  redraw();
}
const zoom = (factor, at = left + width / 2) => view(at - (at - left) * factor, width * factor);
const reveal = (index) => {
  const rank = before[index];
  if (rank < left || rank >= left + width) view(rank - width / 2, width);
  const row = rows[index], y = tops[row.l < 0 ? row.u : row.l], space = lanesCanvas.clientHeight - AXIS;
  if (y < scroll || y + LANE > scroll + space) scroll = clamp(y - space / 2, 0, Math.max(0, height - space));
};
function pick(index, close = false) {
  if (index < 0 || index >= rows.length) return;
  if (before[index] === before[index + 1]) {  // the filter hides it: what was asked for wins
    $("filter").value = text = "";
    off.clear();
    for (const button of $("kinds").children) button.setAttribute("aria-pressed", "true");
    refilter();
  }
  picked = index;
  if (close && scaleOf(lanesCanvas.clientWidth) < 10) view(before[index] - 30, 60);
  reveal(index);
  showDetails();
  scrollList();
  redraw();
}
const step = (by) => {
  if (!shown.length) return;
  const rank = picked < 0 ? (by > 0 ? -1 : shown.length) : before[picked];
  pick(shown[clamp(rank + by, 0, shown.length - 1)]);
};
// what shows a finding is picked, and its steps come into view as far as they can be told apart there
const NEAR = 240;
const show = (index) => {
  const finding = findings.find((one) => bySeq.get(one.seq) === index);
  const points = finding.steps.map((seq) => bySeq.get(seq)).filter((at) => at !== undefined);
  pick(index, true);
  const from = before[Math.min(index, ...points)], to = before[Math.max(index, ...points)] + 1;
  if (to - from > NEAR) return;
  const size = Math.max(to - from + 8, 24);
  view((from + to - size) / 2, size);
};
const nextFinding = (by) => {
  const indices = new Set(findings.map((finding) => bySeq.get(finding.seq)));
  const places = [...indices].filter((index) => index !== undefined).sort((a, b) => by * (a - b));
  if (!places.length) return;
  show(places.find((index) => picked < 0 || by * (index - picked) > 0) ?? places[0]);
};

// -- the list: only the rows in view exist

const list = $("list"), pool = [];
function fillList(moved = false) {
  $("spacer").style.height = `${shown.length * ROW}px`;
  if (moved) list.scrollTop = clamp(list.scrollTop, 0, Math.max(0, shown.length * ROW - list.clientHeight));
  const from = Math.max(0, Math.floor(list.scrollTop / ROW) - 4), need = Math.ceil(list.clientHeight / ROW) + 8;
  while (pool.length < need) {
    const parts = ["n", "u", "k", "x"].map((name) => make("span", { class: name }));
    const node = make("div", { class: "row", role: "option" }, ...parts);
    node.addEventListener("click", () => pick(Number(node.dataset.index)));
    pool.push([node, parts]);
    list.append(node);
  }
  pool.forEach(([node, parts], at) => {
    const rank = from + at, index = shown[rank];
    node.hidden = at >= need || index === undefined;
    if (node.hidden) return;
    const row = rows[index];
    node.style.top = `${rank * ROW}px`;
    node.dataset.index = String(index);
    node.id = `row-${index}`;
    node.className = `row ${wrong(row) ? "bad" : ""} ${marked.get(index) || ""}`;
    node.setAttribute("aria-selected", String(index === picked));
    node.setAttribute("aria-setsize", String(shown.length));
    node.setAttribute("aria-posinset", String(rank + 1));
    [`#${row.q}`, lanes[row.u].name, row.k, row.x].forEach((value, part) => { parts[part].textContent = value; });
    parts[0].title = `${row.t} ns`;
  });
}
function scrollList() {
  const y = before[picked] * ROW;
  const out = y < list.scrollTop + ROW || y > list.scrollTop + list.clientHeight - 2 * ROW;
  if (out) list.scrollTop = y - list.clientHeight / 2;
  fillList();
  list.setAttribute("aria-activedescendant", `row-${picked}`);
}

// -- details

const jump = (name, seq, extra = "", go = (index) => pick(index, true)) => {
  const index = bySeq.get(seq);
  const button = make("button", { type: "button", class: extra }, `${name} #${seq}`);
  if (index === undefined) { button.disabled = true; button.title = "not on this page"; }
  else button.addEventListener("click", () => go(index));
  return button;
};
const runs = (title, values, none) => {
  const codes = (values.length ? values : [none]).map((value) => make("code", {}, value));
  return make("div", {}, make("h3", {}, title), ...codes);
};
const TOLD = 6;
function showDetails() {
  const box = $("details"), row = rows[picked];
  if (!row) { box.replaceChildren(make("p", { class: "hint" }, "Pick an event in the lanes or in the list.")); return; }
  const parts = [make("h2", {}, `#${row.q} ${row.k} of ${lanes[row.u].name}`), make("div", { class: "line" }, row.x)];
  const verdicts = [];
  for (const finding of findings) {
    if (finding.seq === row.q) verdicts.push(make("p", { class: "verdict" }, `${finding.id}: ${finding.text}`));
    else if (finding.steps.includes(row.q)) {
      const number = finding.steps.indexOf(row.q) + 1;
      verdicts.push(make("p", { class: "hint" }, `step ${number} of ${finding.id}, shown by #${finding.seq}`));
    }
  }
  parts.push(...verdicts.slice(0, TOLD));
  if (verdicts.length > TOLD) parts.push(make("p", { class: "hint" }, `and ${verdicts.length - TOLD} more like these`));
  if (row.d) {
    const promised = runs("promised", row.d.promise, row.d.none || "nothing");
    const place = runs("place", row.d.place, "nothing");
    parts.push(make("div", { class: `pair ${row.d.bad ? "bad" : ""}` }, promised, place));
    if (row.d.bad) parts.push(make("div", { class: "verdict" }, row.d.bad));
  }
  const fields = make("dl", {}, make("dt", {}, "time"), make("dd", {}, `${spaced(row.t)} ns`));
  for (const [name, value] of row.f) {
    if (row.d && (name === "promise" || name === "place")) continue;
    fields.append(make("dt", {}, name), make("dd", {}, value));
  }
  const links = make("div", { class: "links" });
  if (row.e !== undefined) links.append(jump(row.k === "ENTER" ? "returns" : "began", row.e));
  if (row.b !== undefined) links.append(jump(row.k === "DMA" ? "its map entry" : "rests on", row.b));
  parts.push(fields, links);
  box.replaceChildren(...parts);
}

// -- the frame around it

const facts = new Map(data.head);
$("title").textContent = facts.get("scenario") || "trace";
for (const [name, value] of facts) {
  if (name !== "scenario" && name !== "program") $("facts").append(make("span", {}, make("b", {}, `${name} `), value));
}
const notices = [];
if (data.left) notices.push(`The ${data.left} events before these are left out (--limit).`);
if (!data.complete) notices.push("The trace was cut short: its last line is missing.");
$("notice").textContent = notices.join(" ");
for (const finding of findings) {
  const index = bySeq.get(finding.seq);
  const line = make("div", { class: "finding" });
  for (const seq of finding.steps) if (seq !== finding.seq) line.append(jump("step", seq, "step"));
  const last = rows.length ? rows[rows.length - 1].q : 0;
  const where = index !== undefined ? "" : finding.seq >= last ? " (at the end)" : " (its event is not on this page)";
  line.append(jump("shown by", finding.seq, "", show));
  line.append(make("b", {}, finding.id), make("span", {}, finding.text + where));
  $("findings").append(line);
}
for (const [kind, number] of Object.entries(data.kinds)) {
  const glyph = make("canvas", { "data-mark": kind, "aria-hidden": "true" });
  const button = make("button", { type: "button", "aria-pressed": "true", title: `${number} events` }, glyph, kind);
  button.addEventListener("click", () => {
    if (off.has(kind)) off.delete(kind); else off.add(kind);
    button.setAttribute("aria-pressed", String(!off.has(kind)));
    refilter();
  });
  $("kinds").append(button);
}
const MARKS = findings.length ? [["found", "shows a finding"], ["step", "one of the steps that raced"]] : [];
for (const [mark, what] of MARKS) {
  const glyph = make("canvas", { "data-mark": mark, "aria-hidden": "true" });
  $("marks").append(make("span", { class: "mark" }, glyph, what));
}
// the lanes in words, for who does not see the canvas
const busy = new Array(lanes.length).fill(0);
for (const row of rows) { busy[row.u]++; if (row.l >= 0) busy[row.l]++; }
const words = lanes.map((lane, index) => make("li", {}, `${lane.group}: ${lane.name}, ${busy[index]} events`));
lanesCanvas.append(make("ul", {}, ...words));
const KEYS = [
  ["← →", "step"], ["n p", "next, previous finding"], ["+ -", "zoom"], ["0", "everything"], ["a d", "move"],
  ["/", "filter"], ["Esc", "no filter"], ["wheel", "zoom"], ["shift wheel", "move"],
  ["drag", "move; up and down scrolls lanes"],
];
for (const [key, what] of KEYS) $("keys").append(make("span", {}, make("kbd", {}, key), ` ${what}`));
const help = () => {
  $("keys").hidden = !$("keys").hidden;
  $("help").setAttribute("aria-expanded", String(!$("keys").hidden));
  layout();
};

const NAMES = [
  "page", "panel", "ink", "soft", "line", "stripe", "call", "callink", "map", "dma", "miss", "kick", "state", "bad",
  "step", "pick",
];
const readColors = () => {
  const style = getComputedStyle(document.documentElement);
  for (const name of NAMES) colors[name] = style.getPropertyValue(`--${name}`).trim();
  colors.dark = document.documentElement.dataset.theme === "dark";
};
const theme = (name) => { document.documentElement.dataset.theme = name; readColors(); drawLegend(); redraw(); };
const system = window.matchMedia("(prefers-color-scheme: dark)");
system.addEventListener("change", () => theme(system.matches ? "dark" : "light"));

function layout() {
  gutter = clamp(Math.round(window.innerWidth * 0.16), 90, 210);
  $("stage").style.height = `${Math.min(AXIS + height + 8, Math.max(120, window.innerHeight * 0.5))}px`;
  scroll = clamp(scroll, 0, Math.max(0, height - (lanesCanvas.clientHeight - AXIS)));
  fillList();
  redraw();
}

// -- hands

const rankAt = (x) => left + (x - gutter - 4) / scaleOf(lanesCanvas.clientWidth);
const nearest = (x, y) => {
  // the event of the lane under the pointer that is nearest, else of any lane
  const rank = Math.floor(rankAt(x)), reach = Math.max(2, Math.ceil(8 / scaleOf(lanesCanvas.clientWidth)));
  const lane = tops.findIndex((top) => y >= AXIS + top - scroll && y < AXIS + top - scroll + LANE);
  let best = -1, distance = Infinity;
  for (let at = Math.max(0, rank - reach); at <= Math.min(shown.length - 1, rank + reach); at++) {
    const row = rows[shown[at]], here = row.l === lane ? 0 : row.u === lane ? 0.4 : 50;
    const away = Math.abs(at - rank) + here;
    if (away < distance) { distance = away; best = shown[at]; }
  }
  if (distance < 50) return best;
  const inside = ([enter, exit]) => before[enter] <= rank && rank < before[exit + 1];
  const call = calls.find((one) => rows[one[0]].u === lane && inside(one));
  return call ? call[0] : -1;
};
let drag = null;
lanesCanvas.addEventListener("pointerdown", (event) => {
  drag = { x: event.clientX, y: event.clientY, left, scroll, moved: false };
  lanesCanvas.setPointerCapture(event.pointerId);
});
lanesCanvas.addEventListener("pointermove", (event) => {
  const box = lanesCanvas.getBoundingClientRect();
  if (drag) {
    drag.moved = drag.moved || Math.abs(event.clientX - drag.x) + Math.abs(event.clientY - drag.y) > 4;
    if (!drag.moved) return;
    scroll = clamp(drag.scroll - (event.clientY - drag.y), 0, Math.max(0, height - (lanesCanvas.clientHeight - AXIS)));
    view(drag.left - (event.clientX - drag.x) / scaleOf(box.width), width);
    return;
  }
  const index = event.clientX - box.left > gutter ? nearest(event.clientX - box.left, event.clientY - box.top) : -1;
  const tip = $("tip");
  tip.hidden = index < 0;
  if (index < 0) return;
  tip.textContent = `#${rows[index].q} ${lanes[rows[index].u].name}: ${rows[index].x}`;
  tip.style.left = `${clamp(event.clientX - box.left + 12, 0, Math.max(0, box.width - tip.offsetWidth - 4))}px`;
  tip.style.top = `${clamp(event.clientY - box.top + 14, 0, Math.max(0, box.height - tip.offsetHeight - 2))}px`;
});
lanesCanvas.addEventListener("pointerup", (event) => {
  const box = lanesCanvas.getBoundingClientRect();
  const index = drag && !drag.moved ? nearest(event.clientX - box.left, event.clientY - box.top) : -1;
  if (index >= 0) pick(index);
  drag = null;
});
lanesCanvas.addEventListener("pointerleave", () => { $("tip").hidden = true; });
lanesCanvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = lanesCanvas.getBoundingClientRect(), x = event.clientX - box.left;
  const across = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
  if (x < gutter) {
    scroll = clamp(scroll + event.deltaY, 0, Math.max(0, height - (lanesCanvas.clientHeight - AXIS)));
    redraw();
  } else if (across) view(left + (event.deltaX || event.deltaY) / scaleOf(box.width), width);
  else zoom(event.deltaY > 0 ? 1.25 : 0.8, rankAt(x));
}, { passive: false });
const toOverview = (event) => {
  const box = overview.getBoundingClientRect();
  view((event.clientX - box.left - gutter - 4) / (box.width - gutter - 10) * shown.length - width / 2, width);
};
overview.addEventListener("pointerdown", (event) => {
  overview.setPointerCapture(event.pointerId);
  toOverview(event);
});
overview.addEventListener("pointermove", (event) => { if (event.buttons) toOverview(event); });
list.addEventListener("scroll", () => fillList());
let typing = 0;
$("filter").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => { text = $("filter").value; refilter(); }, 120);
});
$("in").addEventListener("click", () => zoom(0.5));
$("out").addEventListener("click", () => zoom(2));
$("fit").addEventListener("click", () => view(0, shown.length));
$("help").addEventListener("click", help);
$("theme").addEventListener("click", () => theme(colors.dark ? "light" : "dark"));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") { $("filter").value = text = ""; $("filter").blur(); refilter(); return; }
  if (event.target instanceof HTMLInputElement) return;
  const page = Math.max(1, Math.floor(list.clientHeight / ROW) - 1);
  const keys = {
    ArrowRight: () => step(1), ArrowDown: () => step(1), ArrowLeft: () => step(-1), ArrowUp: () => step(-1),
    PageDown: () => step(page), PageUp: () => step(-page), Home: () => step(-rows.length), End: () => step(rows.length),
    "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), "0": () => view(0, shown.length),
    a: () => view(left - width / 4, width), d: () => view(left + width / 4, width),
    n: () => nextFinding(1), p: () => nextFinding(-1), "/": () => $("filter").focus(), "?": help,
  };
  if (!Object.hasOwn(keys, event.key)) return;
  event.preventDefault();
  keys[event.key]();
});
window.addEventListener("resize", layout);

// -- begin; #seq=12&filter=dma&theme=dark&view=all makes a link to a place

const asked = new URLSearchParams(location.hash.slice(1));
$("app").hidden = false;
theme(asked.get("theme") === "dark" || (asked.get("theme") !== "light" && system.matches) ? "dark" : "light");
$("filter").value = text = asked.get("filter") || "";
width = rows.length;
layout();
refilter();
view(0, shown.length);
showDetails();
const wanted = bySeq.get(Number(asked.get("seq")));
if (wanted !== undefined) pick(wanted, true);
else if (findings.length) nextFinding(1);
if (asked.get("view") === "all") view(0, shown.length);
draw();
document.documentElement.dataset.ready = String(shown.length);
document.documentElement.dataset.took = String(Math.round(performance.now()));
