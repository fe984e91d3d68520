// The pictures. Only what is in view is drawn.
const lanesCanvas = $("lanes"), overview = $("overview");
const sized = (canvas) => {
  const ratio = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
  const w = Math.max(1, Math.round(box.width * ratio)), h = Math.max(1, Math.round(box.height * ratio));
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, box.width, box.height);
  return [context, box.width, box.height];
};
const FONT = "12px system-ui, 'DejaVu Sans', sans-serif", SMALL = "11px system-ui, 'DejaVu Sans', sans-serif";
const elided = (context, name, space, tail = "") => {
  if (context.measureText(name).width <= space) return name;
  let low = 0, high = Math.min(name.length, 200);
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (context.measureText(name.slice(0, middle) + "…" + tail).width <= space) low = middle; else high = middle - 1;
  }
  return low ? name.slice(0, low) + "…" + tail : "";
};
let pending = false;
const redraw = () => {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => { pending = false; draw(); });
};
const draw = () => {
  const began = performance.now();
  drawLanes();
  drawOverview();
  document.documentElement.dataset.drawn = String(Math.round(performance.now() - began));
};
const scaleOf = (w) => (w - gutter - 10) / Math.max(width, 1);

function drawLanes() {
  const [context, w, h] = sized(lanesCanvas);
  const scale = scaleOf(w);
  const xOf = (rank) => gutter + 4 + (rank - left) * scale;
  const first = clamp(Math.floor(left), 0, shown.length), last = clamp(Math.ceil(left + width), 0, shown.length);
  const yOf = (lane) => AXIS + tops[lane] - scroll;
  context.save();
  context.beginPath();
  context.rect(0, AXIS, w, h - AXIS);
  context.clip();
  lanes.forEach((lane, index) => {
    if (index % 2 === 0) { context.fillStyle = colors.stripe; context.fillRect(0, yOf(index), w, LANE); }
  });
  context.rect(gutter, 0, w, h);
  context.restore();
  context.save();
  context.beginPath();
  context.rect(gutter, 0, w - gutter, h);
  context.clip();
  drawAxis(context, h, first, last, xOf, scale);
  context.beginPath();
  context.rect(gutter, AXIS, w - gutter, h - AXIS);
  context.clip();
  drawCalls(context, first, last, xOf, yOf, scale);
  if (scale >= 5) drawGlyphs(context, first, last, xOf, yOf, scale);
  else drawDensity(context, first, last, xOf, yOf);
  context.restore();
  drawMarks(context, w, h, xOf, yOf, scale);
  drawGutter(context, h, yOf);
}

function drawAxis(context, h, first, last, xOf, scale) {
  context.font = SMALL;
  context.textBaseline = "middle";
  const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000];
  const step = steps.find((n) => n * scale >= 70) || 50000;
  context.textAlign = "center";
  for (let rank = Math.ceil(first / step) * step; rank < last; rank += step) {
    const x = xOf(rank + 0.5);
    context.fillStyle = colors.line;
    context.fillRect(Math.round(x), AXIS - 4, 1, h);
    context.fillStyle = colors.soft;
    context.fillText(`#${rows[shown[rank]].q}`, x, AXIS - 10);
  }
  // where virtual time moves
  context.textAlign = "left";
  let free = -Infinity;
  for (let rank = Math.max(first, 0); rank < last; rank++) {
    const now = rows[shown[rank]].t;
    if (rank !== first && rows[shown[rank - 1]].t === now) continue;
    const x = rank === first ? Math.max(gutter + 2, xOf(rank)) : xOf(rank);
    const label = `${spaced(now)} ns`;
    // a line a label: where many moments share a pixel, lines alone would be a curtain
    context.fillStyle = colors.soft;
    context.globalAlpha = 0.5;
    if (rank !== first) context.fillRect(Math.round(x), 0, 1, x < free ? 4 : h);
    context.globalAlpha = 1;
    if (x < free) continue;
    context.fillStyle = colors.ink;
    context.fillText(label, x + 4, 11);
    free = x + context.measureText(label).width + 12;
  }
}
const spaced = (digits) => digits.replace(/\B(?=(\d{3})+$)/g, "\u2009");

function drawCalls(context, first, last, xOf, yOf, scale) {
  context.font = SMALL;
  context.textBaseline = "middle";
  context.textAlign = "left";
  for (const [enter, exit, level] of calls) {
    const from = before[enter], to = before[exit + 1];
    if (to <= first || from >= last || to === from) continue;
    const row = rows[enter], end = rows[exit], x = xOf(from) + 1, size = Math.max(1, (to - from) * scale - 2);
    const failed = row.e !== undefined && end.bad;
    const y = yOf(row.u) + 4 + Math.min(level, 3) * 3, high = LANE - 8 - Math.min(level, 3) * 3;
    context.fillStyle = failed ? colors.bad : colors.call;
    context.globalAlpha = scale < 2 ? 0.45 : 1;
    context.fillRect(x, y, size, high);
    context.globalAlpha = 1;
    const at = Math.max(x, gutter) + 4, room = x + size - at - 4;
    if (room > 24 && high > 10) {
      context.fillStyle = failed && colors.dark ? "#000" : colors.callink;
      const result = failed ? ` ${end.x.slice(end.x.lastIndexOf(" = ") + 3).split("  #")[0]}` : "";
      const name = (row.n || row.x.split("(")[0]) + (row.e === undefined ? " = ?" : result);
      context.fillText(elided(context, name, room), at, y + high / 2 + 0.5);
    }
  }
}

const GLYPHS = {
  MAP: "up", REMAP: "diamond", UNMAP: "down", PUSH: "bar", DMA: "disc", MISS: "ring", WAKE: "ring", KICK: "right",
  SIGNAL: "left", OWNER: "square", STATUS: "square", FAULT: "cross", VIOLATION: "cross", UNMODELLED: "cross",
  SUSPEND: "pause", RING: "square", FEATURES: "square", OPEN: "square", GONE: "cross", REMOVE: "cross", SPACE: "square",
  PIN: "up", UNPIN: "down", CLEAR: "down", BATCH: "bar", USED: "diamond", CONFIG: "left", QUIET: "ring", IDLE: "ring",
  IGNORED: "ring", STILL: "pause", MOVED: "diamond",
};
function glyph(context, kind, x, y, r) {
  context.beginPath();
  switch (GLYPHS[kind]) {
    case "up": context.moveTo(x, y - r); context.lineTo(x + r, y + r); context.lineTo(x - r, y + r); break;
    case "down": context.moveTo(x, y + r); context.lineTo(x + r, y - r); context.lineTo(x - r, y - r); break;
    case "right": context.moveTo(x + r, y); context.lineTo(x - r, y - r); context.lineTo(x - r, y + r); break;
    case "left": context.moveTo(x - r, y); context.lineTo(x + r, y - r); context.lineTo(x + r, y + r); break;
    case "diamond":
      context.moveTo(x, y - r); context.lineTo(x + r, y); context.lineTo(x, y + r); context.lineTo(x - r, y); break;
    case "bar": context.rect(x - r / 2, y - r, r, 2 * r); break;
    case "pause": context.rect(x - r, y - r, r * 0.75, 2 * r); context.rect(x + r / 4, y - r, r * 0.75, 2 * r); break;
    case "square": context.rect(x - r, y - r, 2 * r, 2 * r); break;
    case "cross":
      context.moveTo(x - r, y - r); context.lineTo(x + r, y + r);
      context.moveTo(x + r, y - r); context.lineTo(x - r, y + r);
      context.lineWidth = 2.5; context.stroke(); return;
    case "ring": context.arc(x, y, r - 0.5, 0, 7); context.lineWidth = 2; context.stroke(); return;
    default: context.arc(x, y, r, 0, 7);
  }
  context.closePath();
  context.fill();
}
function drawGlyphs(context, first, last, xOf, yOf, scale) {
  const r = clamp(scale / 2 - 0.5, 2, 6);
  context.font = SMALL;
  context.textBaseline = "middle";
  context.textAlign = "left";
  const ends = new Map();
  // a label may run over what follows as long as its lane is empty there
  const next = new Map();
  for (let rank = last - 1; rank >= first; rank--) {
    const row = rows[shown[rank]];
    if (row.k === "ENTER") next.set(row.u, xOf(rank));
    if (row.k === "ENTER" || row.k === "EXIT") continue;
    const lane = row.l < 0 ? row.u : row.l;
    ends.set(rank, next.get(lane) ?? Infinity);
    next.set(lane, xOf(rank));
  }
  for (let rank = first; rank < last; rank++) {
    const row = rows[shown[rank]];
    if (row.k === "ENTER" || row.k === "EXIT") continue;
    const lane = row.l < 0 ? row.u : row.l, x = xOf(rank + 0.5), y = yOf(lane) + LANE / 2;
    const color = wrong(row) ? colors.bad : colors[COLOR[row.k]] || colors.soft;
    context.fillStyle = context.strokeStyle = color;
    glyph(context, row.k, x, y, r);
    if (row.l >= 0) context.fillRect(x - 1, yOf(row.u) + LANE - 5, 2, 4);  // and who did it
    const room = Math.min(ends.get(rank) - r, xOf(last)) - x - r - 8;
    if (scale >= 14 && room > 26) {
      context.fillStyle = wrong(row) ? colors.bad : colors.ink;
      context.fillText(elided(context, label(row), Math.min(room, 220)), x + r + 4, y + 0.5);
    }
  }
}
const label = (row) => {
  const value = (name) => (row.f.find((field) => field[0] === name) || ["", ""])[1].split(" ")[0];
  switch (row.k) {
    case "DMA": return `DMA ${value("access") === "1" ? "read" : "write"} ${value("length")}${row.d.bad ? " ✗" : ""}`;
    case "STATUS": case "OWNER": return `${row.k} ${value("old")}→${value("new")}`;
    case "SUSPEND": return value("new") === "0" ? "RESUME" : "SUSPEND";
    case "RING": return `RING ${value("what")}`;
    case "FEATURES": return `FEATURES ${value("what")}`;
    case "IDLE": case "QUIET": return `${row.k} ${value("why")}`;
    case "GONE": return `GONE ${value("name")}`;
    case "SIGNAL": return `SIGNAL ${value("what")}`;
    case "MAP": case "UNMAP": case "REMAP": return `${row.k} ${value("start")}`;
    case "MISS": case "WAKE": return `${row.k} ${value("iova")}`;
    case "VIOLATION": return value("id");
    default: return row.k;
  }
};
function drawDensity(context, first, last, xOf, yOf) {
  // a column of 2 pixels says how many events of a lane fall there; what is wrong is never averaged away
  const bins = new Map();
  for (let rank = first; rank < last; rank++) {
    const row = rows[shown[rank]];
    if (row.k === "ENTER" || row.k === "EXIT") continue;
    const lane = row.l < 0 ? row.u : row.l, bin = (xOf(rank + 0.5) / 2) | 0, key = lane * 65536 + bin;
    let entry = bins.get(key);
    if (!entry) bins.set(key, (entry = { n: 0, bad: false, kinds: {} }));
    entry.n++;
    entry.bad = entry.bad || wrong(row);
    entry.kinds[COLOR[row.k]] = (entry.kinds[COLOR[row.k]] || 0) + 1;
    if (row.l >= 0) {  // and a trace of it in the lane of who did it
      context.fillStyle = colors[COLOR[row.k]];
      context.fillRect(bin * 2, yOf(row.u) + LANE - 6, 2, 5);
    }
  }
  let most = 1;
  for (const entry of bins.values()) most = Math.max(most, entry.n);
  for (const [key, entry] of bins) {
    const lane = Math.floor(key / 65536), x = (key % 65536) * 2;
    const high = entry.bad ? LANE - 4 : 4 + (LANE - 8) * Math.log1p(entry.n) / Math.log1p(most);
    let y = yOf(lane) + LANE - 2;
    if (entry.bad) { context.fillStyle = colors.bad; context.fillRect(x, y - high, 2, high); continue; }
    for (const [kind, count] of Object.entries(entry.kinds)) {
      const part = high * count / entry.n;
      context.fillStyle = colors[kind] || colors.soft;
      context.fillRect(x, y - part, 2, part);
      y -= part;
    }
  }
}

const middle = (index, xOf) => xOf(before[index] + (before[index + 1] - before[index]) / 2);
// a finding is of interest if what is picked shows it or is a step of it; if none is, all are
const about = (finding) => picked >= 0 && (finding.seq === rows[picked].q || finding.steps.includes(rows[picked].q));
const races = [...new Map(findings.map((finding) => [finding.steps.join(), finding])).values()];  // equal ones once
const placeOf = (index, yOf) => yOf(rows[index].l < 0 ? rows[index].u : rows[index].l);
function drawMarks(context, w, h, xOf, yOf, scale) {
  context.save();
  context.beginPath();
  context.rect(gutter, 0, w - gutter, h);
  context.clip();
  for (const finding of findings) {
    const index = bySeq.get(finding.seq);
    if (index === undefined) continue;
    const x = middle(index, xOf);
    if (x < gutter - 6 || x > w + 6) continue;
    context.fillStyle = colors.bad;
    context.globalAlpha = 0.75;
    context.fillRect(x - 0.75, AXIS - 4, 1.5, h);
    context.globalAlpha = 1;
    found(context, x, AXIS);
  }
  context.beginPath();
  context.rect(gutter, AXIS, w - gutter, h - AXIS);
  context.clip();
  const chosen = races.filter(about);
  if (chosen.length) for (const race of races) drawSteps(context, race, xOf, yOf, scale, 0.25);
  for (const race of chosen.length ? chosen : races) drawSteps(context, race, xOf, yOf, scale, 1);
  if (picked >= 0) {
    const x = middle(picked, xOf);
    context.strokeStyle = colors.pick;
    context.lineWidth = 2;
    context.globalAlpha = 0.6;
    context.beginPath(); context.moveTo(x, AXIS - 4); context.lineTo(x, h); context.stroke();
    context.globalAlpha = 1;
    context.strokeRect(x - clamp(scale / 2, 7, 20), placeOf(picked, yOf) + 1, clamp(scale, 14, 40), LANE - 2);
  }
  context.restore();
}
function found(context, x, y) {
  context.fillStyle = colors.bad;
  context.beginPath();
  context.moveTo(x, y); context.lineTo(x - 6, y - 9); context.lineTo(x + 6, y - 9);
  context.fill();
}
function drawSteps(context, finding, xOf, yOf, scale, alpha) {
  const points = finding.steps.map((seq) => bySeq.get(seq)).filter((index) => index !== undefined);
  if (points.length < 2) return;
  context.globalAlpha = alpha;
  context.lineWidth = 2;
  let from = null;
  points.forEach((index, number) => {
    const x = middle(index, xOf), y = placeOf(index, yOf) + LANE / 2, r = clamp(scale / 2 + 2, 6, 11);
    const color = finding.seq === rows[index].q ? colors.bad : colors.step;
    if (from) {
      context.strokeStyle = colors.step;
      context.setLineDash([5, 4]);
      context.beginPath();
      context.moveTo(...from);
      const top = Math.max(AXIS + 4, Math.min(from[1], y) - 14);
      context.bezierCurveTo(from[0] + 20, top, x - 20, top, x, y);
      context.stroke();
      context.setLineDash([]);
    }
    context.strokeStyle = color;
    context.beginPath(); context.arc(x, y, r, 0, 7); context.stroke();
    if (alpha === 1) badge(context, x - r, y - r, String(number + 1), color);
    from = [x, y];
  });
  context.globalAlpha = 1;
}
function badge(context, x, y, digits, color) {
  context.fillStyle = color;
  context.beginPath(); context.arc(x, y, 6, 0, 7); context.fill();
  context.fillStyle = colors.panel;
  context.font = "600 9px system-ui, 'DejaVu Sans', sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(digits, x, y + 0.5);
}
// the legend is drawn by what draws the lanes
function drawLegend() {
  for (const canvas of document.querySelectorAll("canvas[data-mark]")) {
    const [context] = sized(canvas), kind = canvas.dataset.mark;
    context.fillStyle = context.strokeStyle = colors[COLOR[kind]] || colors.soft;
    if (kind === "ENTER" || kind === "EXIT") context.fillRect(kind === "ENTER" ? 2 : 0, 3, 12, 8);
    else if (kind === "found") found(context, 7, 12);
    else if (kind === "step") {
      context.strokeStyle = colors.step;
      context.lineWidth = 2;
      context.beginPath(); context.arc(7, 7, 5, 0, 7); context.stroke();
    } else glyph(context, kind, 7, 7, 4.5);
  }
}
function drawGutter(context, h, yOf) {
  context.fillStyle = colors.panel;
  context.fillRect(0, 0, gutter, h);
  context.fillStyle = colors.line;
  context.fillRect(gutter - 1, 0, 1, h);
  context.save();
  context.beginPath(); context.rect(0, AXIS, gutter - 2, h - AXIS); context.clip();
  context.textAlign = "left";
  context.textBaseline = "middle";
  context.font = "600 10.5px system-ui, 'DejaVu Sans', sans-serif";
  context.fillStyle = colors.soft;
  for (const [y, name] of headings) {
    context.fillText(elided(context, name.toUpperCase(), gutter - 12), 8, AXIS + y - scroll + GROUP / 2 + 1);
  }
  context.font = FONT;
  context.fillStyle = colors.ink;
  lanes.forEach((lane, index) => {
    const y = yOf(index);
    if (y <= -LANE || y >= h) return;
    context.fillText(elided(context, lane.name, gutter - 24, lane.name.slice(-7)), 16, y + LANE / 2);
  });
  context.restore();
  context.font = SMALL;
  context.textAlign = "left";
  context.textBaseline = "middle";
  context.fillStyle = colors.soft;
  context.fillText("virtual time", 8, 11);
  context.fillText("event", 8, AXIS - 10);
}
function drawOverview() {
  const [context, w, h] = sized(overview);
  const total = Math.max(shown.length, 1), space = w - gutter - 10, x0 = gutter + 4;
  const columns = Math.max(1, Math.floor(space / 2));
  const counts = new Float32Array(columns), bad = new Uint8Array(columns);
  shown.forEach((index, rank) => {
    const column = Math.min(columns - 1, Math.floor(rank / total * columns));
    counts[column] += rows[index].k === "DMA" ? 1 : 0.35;
    if (wrong(rows[index]) && rows[index].k !== "EXIT") bad[column] = 1;
  });
  const most = counts.reduce((a, b) => Math.max(a, b), 0.1);
  for (let column = 0; column < columns; column++) {
    const high = (h - 8) * counts[column] / most;
    context.fillStyle = bad[column] ? colors.bad : colors.call;
    context.fillRect(x0 + column * space / columns, h - 3 - high, space / columns, high);
  }
  for (const finding of findings) {
    const index = bySeq.get(finding.seq);
    if (index === undefined) continue;
    const x = x0 + before[index] / total * space;
    context.fillStyle = colors.bad;
    context.beginPath(); context.moveTo(x, 9); context.lineTo(x - 5, 0); context.lineTo(x + 5, 0); context.fill();
    context.fillRect(x - 0.5, 0, 1, h);
  }
  context.fillStyle = colors.pick;
  const from = x0 + left / total * space, size = width / total * space;
  context.globalAlpha = 0.14;
  context.fillRect(from, 0, size, h);
  context.globalAlpha = 1;
  context.strokeStyle = colors.pick;
  context.strokeRect(from + 0.5, 0.5, Math.max(size - 1, 2), h - 1);
  context.font = SMALL;
  context.fillStyle = colors.soft;
  context.textBaseline = "middle";
  context.fillText("whole run", 8, h / 2);
}
