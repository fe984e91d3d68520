// What the page knows, and which of it is shown. A name from a trace only ever becomes text.
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const rows = data.rows, lanes = data.lanes, findings = data.findings;
const COLOR = {
  ENTER: "call", EXIT: "call", MAP: "map", UNMAP: "map", REMAP: "map", PUSH: "map", DMA: "dma", MISS: "miss",
  WAKE: "miss", SIGNAL: "kick", KICK: "kick", OWNER: "state", STATUS: "state", FAULT: "bad", VIOLATION: "bad",
  UNMODELLED: "bad", SUSPEND: "state", RING: "state", FEATURES: "state", OPEN: "state", GONE: "state", REMOVE: "state",
  SPACE: "state", PIN: "map", UNPIN: "map", CLEAR: "map", BATCH: "map", USED: "dma", CONFIG: "kick", QUIET: "miss",
  IDLE: "miss", IGNORED: "miss", STILL: "state", MOVED: "map",
};
const LANE = 26, GROUP = 18, AXIS = 40, ROW = 22;
let gutter = 190;

const make = (tag, attributes, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
};
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

// -- what the data says, indexed

const bySeq = new Map(rows.map((row, index) => [row.q, index]));
const wrong = (row) => Boolean(row.bad || (row.d && row.d.bad) || COLOR[row.k] === "bad");
const marked = new Map();  // index of a row -> "found" or "step"
for (const finding of findings) {
  for (const seq of finding.steps) {
    const index = bySeq.get(seq);
    if (index !== undefined && marked.get(index) !== "found") marked.set(index, "step");
  }
  const index = bySeq.get(finding.seq);
  if (index !== undefined) marked.set(index, "found");
}
const place = (row) => (row.l < 0 ? "" : lanes[row.l].name);
const search = rows.map((row) => `${row.q} ${lanes[row.u].name} ${row.k} ${row.x} ${place(row)}`.toLowerCase());
const calls = [];  // [enter, exit, level]: a level a call that begins while others of its unit are open
{
  const open = new Map();
  rows.forEach((row, index) => {
    if (row.k !== "ENTER") return;
    const end = row.e === undefined ? rows.length - 1 : bySeq.get(row.e) ?? rows.length - 1;
    const busy = (open.get(row.u) || []).filter((call) => call[1] > index);
    let level = 0;
    while (busy.some((call) => call[2] === level)) level++;
    const call = [index, end, level];
    busy.push(call);
    open.set(row.u, busy);
    calls.push(call);
  });
}
// lanes with a heading before each group: y of every lane
const tops = [], headings = [];
let height = 0;
lanes.forEach((lane, index) => {
  if (!index || lanes[index - 1].group !== lane.group) { headings.push([height, lane.group]); height += GROUP; }
  tops.push(height);
  height += LANE;
});

// -- what is shown

let shown = [];  // indices of the rows that pass the filter
const before = new Int32Array(rows.length + 1);  // rows that pass, before an index
const off = new Set();
let text = "", left = 0, width = 1, scroll = 0, picked = -1, colors = {};

const passes = (index, words) => {
  const row = rows[index];
  if (off.has(row.k)) return false;
  return words.every((word) => {
    const negated = word.length > 1 && word[0] === "-";
    const wanted = negated ? word.slice(1) : word;
    const [, field, value] = /^(unit|kind|queue|seq):(.*)$/.exec(wanted) || [];
    let found;
    if (field === "unit") found = lanes[row.u].name.toLowerCase().includes(value);
    else if (field === "kind") found = row.k.toLowerCase() === value;
    else if (field === "queue") found = row.l >= 0 && lanes[row.l].name.toLowerCase().includes(value);
    else if (field === "seq") found = String(row.q) === value;
    else found = search[index].includes(wanted);
    return found !== negated;
  });
};
const refilter = () => {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const center = shown.length ? shown[clamp(Math.floor(left + width / 2), 0, shown.length - 1)] : 0;
  shown = [];
  for (let index = 0; index < rows.length; index++) {
    before[index] = shown.length;
    if (passes(index, words)) shown.push(index);
  }
  before[rows.length] = shown.length;
  $("count").textContent = `${shown.length === rows.length ? "" : `${shown.length} of `}${rows.length} events`;
  view(before[center] - width / 2, Math.min(width, Math.max(shown.length, 1)));
  if (shown.length <= 400) view(0, shown.length);
  fillList(true);
};
