const POINTS = DATA.points, COLUMNS = DATA.columns, TENSORS = DATA.tensors;
const column = (name) => COLUMNS.findIndex((each) => each.name === name);
const DENSE = POINTS[0];
const FIRST = DATA.measured ? "Best" : DATA.alive ? "First alive" : "First";
// A cost's saving in percent, where the page has both; shown beside it and not again.
const savingOf = (index) => column(COLUMNS[index].name.replace(/^(\w+\.)?(\w+?)(_s|_bytes|_j)?$/, (_, part, metric) => `${part || `${PHASE}.`}saved.${metric}_pct`));
const PHASE = (COLUMNS.find((each) => each.name.includes(".saved.params")) || { name: "" }).name.split(".")[0];
const BESIDE = new Set(COLUMNS.map((_, index) => savingOf(index)).filter((index) => index >= 0 && !DATA.objectives.includes(COLUMNS[index].name)));
const OWN = COLUMNS.map((_, index) => index).filter((index) => !BESIDE.has(index));
const state = { x: column(DATA.objectives[0]), y: column(DATA.objectives[1]), histogram: DATA.objectives[0], selected: null, limits: new Map() };

function show(value, index) {
  const { unit, name } = COLUMNS[index];
  if (unit === "s") return seconds(value);
  if (unit === "%") return `${value.toFixed(2)} %`;
  if (unit === "x") return `${value.toFixed(3)}x`;
  if (name === "params") return si(value, "", 4).trim();
  return si(value, unit, 4).trim();
}

const keeps = (point) => [...state.limits].every(([index, limit]) => COLUMNS[index].more ? point.values[index] >= limit : point.values[index] <= limit);

// Candidate number at every site: choices(point)[layer][tensor], 0 for dense.
function choices(point) {
  const rows = [], step = DATA.width * TENSORS.length;
  for (let layer = 0; layer < DATA.layers; layer++) {
    const text = point.sites.slice(layer * step, (layer + 1) * step);
    rows.push(TENSORS.map((_, index) => parseInt(text.slice(index * DATA.width, (index + 1) * DATA.width), 36)));
  }
  return rows;
}

const rankOf = (tensor, choice) => TENSORS[tensor].ranks[choice - 1];

function runs(layers) {
  const parts = [];
  for (const layer of layers) {
    const last = parts[parts.length - 1];
    if (last && last[1] === layer - 1) last[1] = layer; else parts.push([layer, layer]);
  }
  return parts.map(([a, b]) => a === b ? `${a}` : `${a}-${b}`).join(",");
}

// SPECs that rebuild a configuration: layers with equal ranks together, tensors of equal rank together.
function specs(point) {
  const rows = choices(point), groups = new Map();
  rows.forEach((row, layer) => {
    const byRank = new Map();
    row.forEach((choice, tensor) => { if (choice) byRank.set(rankOf(tensor, choice), [...(byRank.get(rankOf(tensor, choice)) || []), tensor]); });
    for (const [rank, tensors] of byRank) {
      const key = `${rank}:${tensors.join(",")}`;
      if (!groups.has(key)) groups.set(key, { rank, tensors, layers: [] });
      groups.get(key).layers.push(layer);
    }
  });
  return [...groups.values()].map(({ rank, tensors, layers }) => {
    const where = layers.length === DATA.layers ? "all" : runs(layers);
    const which = tensors.length === TENSORS.length ? "all" : tensors.map((t) => TENSORS[t].name).join(",");
    return `layers=${where} tensors=${which} rank=${rank} form=${DATA.form}`;
  });
}

function configuration(point) {
  const ranks = {};
  choices(point).forEach((row, layer) => row.forEach((choice, tensor) => { if (choice) ranks[`layers.${layer}.${TENSORS[tensor].name}`] = rankOf(tensor, choice); }));
  return { form: DATA.form, ranks, drop: [] };
}

// The configuration as a recipe, which every command reads with --recipe.
const recipe = (point) => `schema = 1\nmodel = ${JSON.stringify(DATA.model)}\ndecompose = [\n${specs(point).map((spec) => `    "${spec}",\n`).join("")}]\n`;

function command(point) {
  const found = specs(point);
  if (found.length > 12) return `${DATA.command} --recipe recipe.toml`;
  return [DATA.command, ...found.map((spec) => `--decompose "${spec}"`)].join(" \\\n  ");
}

// The cells of a map, as the page was made with them, for another configuration: cellOf(layer, tensor, choice) gives
// text, kind and shade of a factored weight.
function recolour(name, point, cellOf) {
  const figure = $(name);
  if (!figure) return;
  const rows = choices(point), cells = figure.querySelectorAll("tbody tr");
  for (const box of figure.querySelectorAll(".map .site")) {
    const [layer, tensor] = box.dataset.site.split(" ").map(Number), choice = rows[layer][tensor];
    const [text, kind, shade] = choice ? cellOf(layer, tensor, choice) : ["dense", "dense", 0];
    box.setAttribute("class", `site ${kind}`);
    box.style.setProperty("--v", shade);
    box.firstChild.textContent = `layer ${layer}, ${TENSORS[tensor].name}: ${text}`;
    cells[layer].children[1 + tensor].textContent = text;
  }
  figure.querySelector(".map").setAttribute("aria-label", `${figure.querySelector("figcaption").textContent}: ${rankRange(point)}`);
}

function recolourMaps(point) {
  recolour("ranks", point, (layer, tensor, choice) => DATA.cells[tensor][choice - 1]);
  const { values, unit, low, high, log } = DATA.damage || {};
  recolour("damage", point, (layer, tensor, choice) => {
    const value = values[layer][tensor][choice - 1];
    const share = log ? Math.log(value / low) / Math.log(high / low) : value / high;
    return [`${trim(value, 3)} ${unit}`, "value", value <= low ? 0 : Math.min(1, share).toFixed(3)];
  });
}

function rankRange(point) {
  const found = choices(point).flatMap((row) => row.flatMap((choice, t) => choice ? [rankOf(t, choice)] : []));
  if (!found.length) return "dense";
  const low = Math.min(...found), high = Math.max(...found);
  return `${found.length} of ${DATA.layers * TENSORS.length} weights, rank ${low === high ? low : `${low} to ${high}`}`;
}

function detail() {
  const point = state.selected;
  const kind = { dense: "The dense model", best: `${FIRST} by ${COLUMNS[column(DATA.objectives[0])].label}`, frontier: "On the frontier", sample: "One of the sample" }[point.kind];
  const text = command(point);
  const copy = make("button", { type: "button", onclick: () => navigator.clipboard && navigator.clipboard.writeText(text.replace(/ \\\n {2}/g, " ")).then(() => { copy.textContent = "copied"; }, () => { copy.textContent = "select and copy"; }) }, "copy");
  const save = (name, type, content) => make("button", { type: "button", onclick: () => {
    make("a", { href: URL.createObjectURL(new Blob([content(point)], { type })), download: name }).click();
  } }, `save ${name}`);
  const files = [save("recipe.toml", "application/toml", recipe), save("configuration.json", "application/json", (each) => JSON.stringify(configuration(each), null, 2))];
  const saved = (index) => { const at = savingOf(index); return at < 0 ? "" : `${point.values[at].toFixed(1)} %`; };
  const rows = OWN.map((index) => [COLUMNS[index].label, show(DENSE.values[index], index), show(point.values[index], index), saved(index)]);
  $("which").replaceChildren(make("h3", {}, kind), make("p", { class: "muted" }, rankRange(point)));
  recolourMaps(point);
  $("costs").replaceChildren(
    make("div", { class: "scroll" }, table(["", "dense", "here", "saved"], rows)),
    make("h3", {}, "The same numbers from the shell"), make("pre", { class: "command mono", id: "command" }, text),
    make("div", { class: "bar" }, copy, ...files));
}

function select(point) {
  state.selected = point;
  detail();
  draw();
  histogram();
}

const LOOK = {
  sample: { colour: "var(--grey)", name: "uniform sample" }, frontier: { colour: "var(--blue)", name: "frontier" },
  best: { colour: "var(--orange)", name: `${FIRST.toLowerCase()} by ${COLUMNS[column(DATA.objectives[0])].label}` }, dense: { colour: "var(--ink)", name: "dense" },
};

function shape(kind, x, y) {
  const fill = LOOK[kind].colour;
  if (kind === "dense") return make("polygon", { points: `${x},${y - 7} ${x + 7},${y} ${x},${y + 7} ${x - 7},${y}`, fill, stroke: "var(--paper)" });
  if (kind === "best") return make("rect", { x: x - 5.5, y: y - 5.5, width: 11, height: 11, fill, stroke: "var(--paper)" });
  return make("circle", { cx: x, cy: y, r: kind === "frontier" ? 3.6 : 2.2, fill, "fill-opacity": kind === "frontier" ? 0.95 : 0.4 });
}

function draw() {
  const host = $("chart"), width = host.clientWidth;
  if (!width) return;
  const height = Math.round(Math.min(560, Math.max(340, width * 0.66)));
  const box = { left: 66, right: width - 14, top: 28, bottom: height - 46 };
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "configurations", style: "cursor:pointer" });
  host.replaceChildren(svg);
  const scale = (index, from, to) => {
    const values = POINTS.map((point) => point.values[index]), low = Math.min(...values), high = Math.max(...values), pad = 0.03 * (high - low || Math.abs(high) || 1);
    return linearScale(low - pad, high + pad, from, to, (value) => axisText(value, index));
  };
  const x = scale(state.x, box.left, box.right), y = scale(state.y, box.bottom, box.top);
  const title = (index) => `${COLUMNS[index].label}, ${COLUMNS[index].more ? "more" : "less"} is better`;
  drawAxes(svg, box, x, y, title(state.x), title(state.y));
  const places = POINTS.map((point) => [x(point.values[state.x]), y(point.values[state.y])]);
  let kept = 0;
  for (const kind of ["sample", "frontier", "best", "dense"]) {
    POINTS.forEach((point, index) => {
      if (point.kind !== kind) return;
      const mark = shape(kind, ...places[index]), inside = keeps(point);
      if (kind === "sample" && inside) kept++;
      if (!inside) mark.setAttribute("opacity", 0.12);
      svg.append(mark);
    });
  }
  if (state.selected) {
    const [cx, cy] = places[POINTS.indexOf(state.selected)];
    svg.append(make("circle", { cx, cy, r: 10, fill: "none", stroke: "var(--ink)", "stroke-width": 2 }));
  }
  svg.addEventListener("click", (event) => {
    const at = svg.getBoundingClientRect(), factor = width / at.width;
    const px = (event.clientX - at.left) * factor, py = (event.clientY - at.top) * factor;
    let best = null;
    POINTS.forEach((point, index) => {
      if (!keeps(point)) return;
      const distance = Math.hypot(places[index][0] - px, places[index][1] - py) - (point.kind === "sample" ? 0 : 6);
      if (best === null || distance < best.distance) best = { distance, point };
    });
    if (best && best.distance < 40) select(best.point);
  });
  const samples = POINTS.filter((point) => point.kind === "sample").length;
  $("shown").textContent = state.limits.size ? `${kept} of ${samples} sampled configurations are within the limits set below.` : `${samples} configurations drawn uniformly; click a point for its ranks and the command that reproduces it.`;
}

function axisText(value, index) {
  const { unit, name } = COLUMNS[index];
  if (unit === "s") return seconds(value, 3);
  if (unit === "%") return `${trim(value, 3)} %`;
  return si(value, name === "params" ? "" : unit, 3).trim();
}

function histogram() {
  const host = $("histogram"), found = DATA.distribution[state.histogram], width = host.clientWidth;
  if (!found || !width) return;
  const index = column(state.histogram), height = 240, box = { left: 56, right: width - 14, top: 26, bottom: height - 44 };
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `distribution of ${COLUMNS[index].label}` });
  host.replaceChildren(svg);
  const edges = found.edges, marked = [DENSE, state.selected].filter(Boolean).map((point) => point.values[index]);
  const ends = [Math.min(edges[0], ...marked), Math.max(edges[edges.length - 1], ...marked)];
  const x = linearScale(...ends, box.left, box.right, (value) => axisText(value, index));
  const most = Math.max(...found.counts), y = linearScale(0, 100 * most, box.bottom, box.top, (value) => trim(value, 3));
  drawAxes(svg, box, x, y, COLUMNS[index].label, "configurations (%)");
  found.counts.forEach((count, bin) => {
    if (!count) return;
    const from = x(edges[bin]), to = x(edges[bin + 1] ?? edges[bin]), top = Math.min(y(100 * count), box.bottom - 1);
    svg.append(make("rect", { x: from, y: top, width: Math.max(1, to - from - 1), height: box.bottom - top, fill: "var(--blue)", "fill-opacity": 0.75 }));
  });
  const line = (value, colour, dash) => svg.append(make("line", { x1: x(value), x2: x(value), y1: box.top, y2: box.bottom, stroke: colour, "stroke-width": 2, "stroke-dasharray": dash }));
  line(DENSE.values[index], "var(--ink)", "3 3");
  if (state.selected) line(state.selected.values[index], "var(--orange)", null);
  const source = found.sampled ? `${found.sampled} uniform samples` : `all ${DATA.configurations} configurations`;
  $("histogram-note").textContent = `Of ${source}. Dotted: dense. Solid: the configuration selected.`;
}

function list() {
  const rows = POINTS.filter((point) => (point.kind === "frontier" || point.kind === "best") && keeps(point));
  const step = Math.max(1, Math.ceil(rows.length / 24)), shownRows = rows.filter((_, index) => index % step === 0);
  const asked = DATA.objectives.map(column);
  $("list").replaceChildren(table(["", ...asked.map((index) => COLUMNS[index].label)], shownRows.map((point) => [
    make("button", { type: "button", class: "row", onclick: () => select(point) }, rankRange(point)), ...asked.map((index) => show(point.values[index], index))])));
  if (!rows.length) $("list").replaceChildren(make("p", { class: "muted" }, "Nothing on the frontier is within these limits."));
  else if (step > 1) $("list").append(make("p", { class: "muted" }, `One in ${step} of ${rows.length}.`));
}

function controls() {
  const choose = (key, label) => {
    const menu = make("select", { id: `axis-${key}`, onchange: () => { state[key] = Number(menu.value); draw(); } },
      ...COLUMNS.map((each, index) => make("option", { value: index, selected: index === state[key] }, each.label)));
    $("controls").append(make("label", { class: "label", for: `axis-${key}` }, label), menu);
  };
  choose("x", "across");
  choose("y", "up");
  const names = Object.keys(DATA.distribution);
  const menu = make("select", { "aria-label": "cost", onchange: () => { state.histogram = menu.value; histogram(); } },
    ...names.map((name) => make("option", { value: name }, COLUMNS[column(name)].label)));
  if (names.length) { state.histogram = names[0]; $("histogram-bar").append(menu); } else $("histogram-note").textContent = "Not known for this space.";
}

function limits() {
  OWN.forEach((index) => {
    const each = COLUMNS[index], values = POINTS.map((point) => point.values[index]), low = Math.min(...values), high = Math.max(...values);
    if (!(high > low)) return;
    const off = each.more ? 0 : 1000, output = make("output", {}, "any");
    const input = make("input", { type: "range", min: 0, max: 1000, value: off, "aria-label": `limit of ${each.label}` });
    input.addEventListener("input", () => {
      const limit = low + (high - low) * input.value / 1000;
      if (Number(input.value) === off) state.limits.delete(index); else state.limits.set(index, limit);
      output.textContent = state.limits.has(index) ? `${each.more ? "at least" : "at most"} ${show(limit, index)}` : "any";
      draw();
      list();
    });
    $("limits").append(make("label", {}, each.label, output, input));
  });
}

$("title").textContent = DATA.title;
$("subtitle").textContent = DATA.subtitle;
const facts = [`${DATA.configurations} configurations`];
if (DATA.limits.length && DATA.matching !== null) facts.push(`${DATA.matching} within ${DATA.limits.join(", ")}`);
facts.push(`frontier of ${DATA.frontier_size}`, `guarantee: ${DATA.guarantee}`);
if (DATA.quality) facts.push(`quality: ${DATA.quality.metric}${DATA.quality.stand_in ? ", a stand-in and no measurement" : ""}`);
$("facts").textContent = facts.join(" · ");
$("answer").textContent = DATA.answer;
$("trust").replaceChildren(...DATA.trust.map((line) => make("li", {}, line)));
$("assumptions").replaceChildren(...DATA.assumptions.map((line) => make("li", {}, line)));
for (const kind of ["frontier", "best", "dense", "sample"]) {
  const key = make("svg", { viewBox: "0 0 14 14" }, shape(kind, 7, 7));
  $("legend").append(make("span", {}, key, LOOK[kind].name));
}
controls();
limits();
list();
state.selected = POINTS.find((point) => point.kind === "best") || POINTS.find((point) => point.kind === "frontier") || DENSE;
onWidth($("chart"), draw);
detail();
onWidth($("histogram"), histogram);
