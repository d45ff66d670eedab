const COLOURS = { attn: "var(--blue)", mlp: "var(--orange)", attention: "var(--green)", head: "var(--amber)", vector: "var(--purple)" };
const shown = { dense: true, factored: true, roofs: true };
const hasFactors = DATA.panels.some((panel) => panel.arrows.length > 0);

$("title").textContent = DATA.title;
$("configuration").textContent = DATA.configuration;

function controls() {
  const bar = $("controls");
  const toggle = (key, label) => bar.append(toggleButton(label, shown[key], (on) => { shown[key] = on; drawAll(); }));
  bar.append(make("span", { class: "label" }, "show"));
  if (hasFactors) { toggle("dense", "dense"); toggle("factored", "factored"); }
  toggle("roofs", "roofs of other types");
}

function legend() {
  const used = new Set(DATA.panels.flatMap((panel) => panel.marks.map((mark) => mark.group)));
  for (const [key, name] of Object.entries(DATA.groups)) {
    if (!used.has(key)) continue;
    $("legend").append(make("span", {}, make("svg", { viewBox: "0 0 14 14" }, make("circle", { cx: 7, cy: 7, r: 6, fill: COLOURS[key] })), name));
  }
}

function details(mark) {
  return [
    ["operations", String(mark.operations)], ["intensity", `${trim(mark.work_intensity, 3)} FLOP/B`],
    ["achieved", si(mark.flops_per_s, "FLOP/s")], ["work", si(mark.work_flops, "FLOP")], ["traffic", si(mark.hbm_bytes, "B")],
    ["time", seconds(mark.latency_s)], ["share of the pass", percent(mark.share)], ["limited by", mark.bound],
  ];
}

const name = (mark) => `${mark.label}${mark.share >= 0.005 ? ` ${(100 * mark.share).toFixed(0)} %` : ""}`;

function draw(panel, host, index, note) {
  const width = host.clientWidth, height = Math.round(Math.min(560, Math.max(380, width * 0.78)));
  const box = { left: 46, right: width - 8, top: 26, bottom: height - 48 };
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Roofline, ${panel.title}` });
  host.replaceChildren(svg);
  const x = logScale(...DATA.x_range, box.left, box.right), y = logScale(...DATA.y_range, box.bottom, box.top);
  drawAxes(svg, box, x, y, "arithmetic intensity (FLOP/B)", "achieved rate (FLOP/s)");
  const taken = roofs(svg, x, y, box);
  const clipped = make("g", {});
  svg.append(make("defs", {}, make("marker", { id: `tip${index}`, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
    make("path", { d: "M0,0L8,4L0,8z", fill: "var(--muted)" }))), clipped);
  const visible = panel.marks.filter((mark) => shown[mark.variant]);
  const place = (mark) => ({ x: x(mark.work_intensity), y: y(mark.flops_per_s), r: Math.max(3, 26 * Math.sqrt(mark.share)) });
  if (shown.dense && shown.factored) {
    for (const [from, to] of panel.arrows) {
      const a = place(panel.marks[from]), b = place(panel.marks[to]), length = Math.hypot(b.x - a.x, b.y - a.y) || 1;
      const stop = Math.max(0, length - b.r - 3) / length;
      clipped.append(make("line", { x1: a.x, y1: a.y, x2: a.x + (b.x - a.x) * stop, y2: a.y + (b.y - a.y) * stop,
        stroke: "var(--muted)", "stroke-width": 1.2, opacity: 0.8, "marker-end": `url(#tip${index})` }));
    }
  }
  const names = [];
  for (const mark of [...visible].sort((a, b) => b.share - a.share)) {
    const { x: cx, y: cy, r } = place(mark), colour = COLOURS[mark.group];
    const look = { stroke: colour, "stroke-width": 1.5, fill: colour, tabindex: 0, role: "button", "aria-label": `${mark.variant} ${name(mark)}`, style: "cursor:pointer" };
    const shape = mark.variant === "dense"
      ? make("circle", { cx, cy, r, "fill-opacity": 0.28, ...look })
      : make("rect", { x: cx - r * 0.886, y: cy - r * 0.886, width: r * 1.772, height: r * 1.772, ...look, stroke: "var(--paper)" });
    const open = () => showTip(shape, `${mark.label} (${mark.variant})`, details(mark));
    for (const event of ["pointerenter", "focus", "click"]) shape.addEventListener(event, open);
    for (const event of ["pointerleave", "blur"]) shape.addEventListener(event, hideTip);
    svg.append(shape);
    names.push({ x: cx, y: cy, r, text: name(mark), colour, css: mark.variant });
  }
  const left = placeNames(svg, names, taken, { x0: box.left, x1: box.right, y0: box.top, y1: box.bottom });
  note.textContent = left ? `${left} of ${names.length} names found no room; all are in the table below.` : "";
}

// Lines of the roofs; returns the boxes that names should keep clear of.
function roofs(svg, x, y, box) {
  const [left, right] = DATA.x_range, rate = DATA.memory_bytes_per_s, taken = [];
  const own = DATA.roofs.find((roof) => roof.selected);
  const line = (points, attributes) => svg.append(make("path", { d: "M" + points.map(([a, b]) => `${x(a)},${y(b)}`).join("L"), fill: "none", ...attributes }));
  const top = shown.roofs ? Math.max(...DATA.roofs.map((roof) => roof.flops_per_s)) : own.flops_per_s;
  if (top > own.flops_per_s) line([[own.flops_per_s / rate, own.flops_per_s], [top / rate, top]], { stroke: "var(--grey)" });
  for (const roof of [...DATA.roofs].sort((a, b) => b.selected - a.selected)) {
    if (!roof.selected && !shown.roofs) continue;
    const ridge = roof.flops_per_s / rate;
    line([[ridge, roof.flops_per_s], [right, roof.flops_per_s]], { stroke: roof.selected ? "var(--ink)" : "var(--grey)", "stroke-width": roof.selected ? 2 : 1 });
    const label = make("text", { class: roof.selected ? "halo" : "soft halo", x: box.right - 2, y: y(roof.flops_per_s) - 4, "text-anchor": "end" }, `${roof.label} ${si(roof.flops_per_s, "FLOP/s")}`);
    svg.append(label);
    if (taken.some((other) => overlap(other, bounds(label)) > 0)) label.remove();
    else taken.push(bounds(label));
  }
  const ridge = own.flops_per_s / rate;
  line([[left, left * rate], [ridge, own.flops_per_s]], { stroke: "var(--ink)", "stroke-width": 2 });
  line([[ridge, DATA.y_range[0]], [ridge, own.flops_per_s]], { stroke: "var(--muted)", "stroke-dasharray": "2 4" });
  const foot = make("text", { class: "soft", x: x(ridge) + 4, y: box.bottom - 6 }, `ridge ${trim(ridge, 3)} FLOP/B`);
  svg.append(foot);
  if (foot.getBBox().x + foot.getBBox().width > box.right) { foot.setAttribute("text-anchor", "end"); foot.setAttribute("x", x(ridge) - 4); }
  taken.push(bounds(foot));
  const angle = Math.atan2(y(left * rate) - y(10 * left * rate), x(10 * left) - x(left)) * 180 / Math.PI;
  const at = [x(left) + 8, y(left * rate) - 16];
  const slope = make("text", { class: "soft", x: at[0], y: at[1], transform: `rotate(${-angle} ${at[0]} ${at[1]})` }, `${si(rate, "B/s")} memory`);
  svg.append(slope);
  for (let step = 0, length = slope.getBBox().width; step <= length; step += 6) {
    const px = at[0] + step * Math.cos(angle * Math.PI / 180), py = at[1] - 4 - step * Math.sin(angle * Math.PI / 180);
    taken.push({ x0: px - 5, x1: px + 5, y0: py - 6, y1: py + 6 });
  }
  for (let i = 0; i <= 160; i++) {
    const value = left * (right / left) ** (i / 160), px = x(value), py = y(Math.min(own.flops_per_s, value * rate));
    taken.push({ x0: px - 2, x1: px + 2, y0: py - 2, y1: py + 2 });
  }
  return taken;
}

function bounds(element) {
  const { x, y, width, height } = element.getBBox();
  return { x0: x, x1: x + width, y0: y, y1: y + height };
}

const draws = [];
const drawAll = () => draws.forEach((each) => each());

DATA.panels.forEach((panel, index) => {
  const chart = make("div", {}), note = make("p", { class: "muted" });
  const facts = [`device ${seconds(panel.device_s)}`];
  if (panel.host_s) facts.push(`host launches ${seconds(panel.host_s)}`);
  if (panel.idle > 0.0005) facts.push(`${percent(panel.idle)} of the dense pass only moves data`);
  $("panels").append(make("figure", {}, make("h3", {}, panel.title), chart, note,
    make("p", {}, `Verdict: ${panel.verdict}`), make("p", { class: "muted" }, facts.join(" · "))));
  draws.push(() => draw(panel, chart, index, note));
  onWidth(chart, draws[index]);
  const columns = ["operations", "variant", "number", "intensity", "achieved", "work", "traffic", "time", "share", "limited by"];
  $("tables").append(make("h3", {}, panel.phase), make("div", { class: "scroll" }, table(columns, panel.marks.map((mark) => [
    mark.label, mark.variant, String(mark.operations), `${trim(mark.work_intensity, 3)} FLOP/B`, si(mark.flops_per_s, "FLOP/s"),
    si(mark.work_flops, "FLOP"), si(mark.hbm_bytes, "B"), seconds(mark.latency_s), percent(mark.share), mark.bound]))));
});
controls();
legend();
