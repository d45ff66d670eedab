// Shared by the pages: numbers for human eyes, SVG elements, axes, a tooltip, the theme switch.
const $ = (id) => document.getElementById(id);

function si(value, unit, digits = 3) {
  for (const [factor, prefix] of [[1e21, "Z"], [1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= factor * 0.9995) return `${trim(value / factor, digits)} ${prefix}${unit}`;
  }
  return `${trim(value, digits)} ${unit}`;
}

function trim(value, digits) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e15 || size < 1e-4) return value.toExponential(digits - 1);
  const places = Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
  return String(Number(value.toFixed(places)));
}

function seconds(value, digits = 4) {
  for (const [factor, unit] of [[1, "s"], [1e-3, "ms"], [1e-6, "us"]]) {
    if (Math.abs(value) >= factor * 0.99995) return `${trim(value / factor, digits)} ${unit}`;
  }
  return `${trim(value * 1e9, digits)} ns`;
}

const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;

function make(tag, attributes = {}, ...children) {
  const names = ["svg", "g", "line", "path", "rect", "circle", "text", "tspan", "title", "defs", "marker", "clipPath", "polygon"];
  const element = names.includes(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const superscript = (number) => String(number).replace(/./g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"["0123456789-".indexOf(c)]);

// A mapping from values to pixels; `ticks` are [value, label] pairs.
function logScale(low, high, from, to) {
  const span = Math.log10(high / low);
  const scale = (value) => from + (to - from) * Math.log10(value / low) / span;
  const step = Math.max(1, Math.round(span * 46 / Math.abs(to - from)));
  scale.ticks = [];
  for (let e = Math.ceil(Math.log10(low) - 1e-9); e <= Math.log10(high) + 1e-9; e++) {
    if (e % step === 0) scale.ticks.push([10 ** e, `10${superscript(e)}`]);
  }
  return scale;
}

function linearScale(low, high, from, to, show) {
  const scale = (value) => from + (to - from) * (value - low) / (high - low || 1);
  const rough = (high - low || 1) / Math.max(2, Math.abs(to - from) / 75);
  const base = 10 ** Math.floor(Math.log10(rough));
  const step = base * [1, 2, 5, 10].find((factor) => base * factor >= rough);
  scale.ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) scale.ticks.push([i * step, show(i * step)]);
  scale.invert = (pixel) => low + (high - low) * (pixel - from) / (to - from);
  return scale;
}

function drawAxes(svg, box, x, y, xTitle, yTitle) {
  const { left, right, top, bottom } = box;
  for (const [value, label] of x.ticks) {
    const at = x(value);
    svg.append(make("line", { class: "grid", x1: at, x2: at, y1: top, y2: bottom }));
    const text = make("text", { class: "tick", x: at, y: bottom + 17, "text-anchor": "middle" }, label);
    svg.append(text);
    if (at + text.getBBox().width / 2 > svg.viewBox.baseVal.width) {
      text.setAttribute("text-anchor", "end");
      text.setAttribute("x", svg.viewBox.baseVal.width - 2);
    }
  }
  for (const [value, label] of y.ticks) {
    const at = y(value);
    svg.append(make("line", { class: "grid", x1: left, x2: right, y1: at, y2: at }));
    svg.append(make("text", { class: "tick", x: left - 7, y: at + 4, "text-anchor": "end" }, label));
  }
  svg.append(make("path", { class: "axis", d: `M${left},${top}V${bottom}H${right}` }));
  svg.append(make("text", { x: (left + right) / 2, y: bottom + 38, "text-anchor": "middle" }, xTitle));
  svg.append(make("text", { x: 4, y: top - 10, "text-anchor": "start" }, yTitle));
}

const overlap = (a, b) => Math.max(0, Math.min(a.x1, b.x1) - Math.max(a.x0, b.x0)) * Math.max(0, Math.min(a.y1, b.y1) - Math.max(a.y0, b.y0));

// Names beside their points, where they hide least: `points` are {x, y, r, text, css, colour}, the most important first.
// A name never stands on another text or outside the frame: where no place is free it is left out. Returns how many are.
function placeNames(svg, points, taken, frame) {
  const ways = [[1, 0], [-1, 0], [0, -1], [0, 1], [1, -1], [-1, -1], [1, 1], [-1, 1], [0.5, -1], [-0.5, -1], [0.5, 1], [-0.5, 1]];
  const texts = [...svg.querySelectorAll("text:not([transform])")].map((text) => text.getBBox()).map((box) => ({ x0: box.x - 1, x1: box.x + box.width + 1, y0: box.y, y1: box.y + box.height }));
  const boxes = [...taken, ...points.map((p) => ({ x0: p.x - p.r, x1: p.x + p.r, y0: p.y - p.r, y1: p.y + p.r }))];
  let left = 0;
  for (const point of points) {
    const text = make("text", { class: `name ${point.css || ""}`, "text-anchor": "middle" }, point.text);
    svg.append(text);
    const size = text.getBBox();
    let best = null;
    for (const [order, gap] of [0, 14, 30, 48, 70, 95, 125, 160].entries()) {
      for (const [dx, dy] of ways) {
        const cx = point.x + dx * (point.r + 4 + gap + size.width / 2), cy = point.y + dy * (point.r + 2 + gap + size.height / 2);
        const box = { x0: cx - size.width / 2, x1: cx + size.width / 2, y0: cy - size.height / 2, y1: cy + size.height / 2 };
        if (overlap(box, frame) < size.width * size.height - 1 || texts.some((other) => overlap(box, other) > 0)) continue;
        const hidden = boxes.reduce((sum, other) => sum + overlap(box, other), 0) + 40 * order;
        if (best === null || hidden < best.hidden) best = { hidden, cx, cy, box, gap };
      }
    }
    if (best === null) { text.remove(); left++; continue; }
    texts.push({ x0: best.box.x0 - 2, x1: best.box.x1 + 2, y0: best.box.y0 - 1, y1: best.box.y1 + 1 });
    text.setAttribute("x", best.cx);
    text.setAttribute("y", best.cy - size.y - size.height / 2);
    if (best.gap > 0) {
      const reach = { x: Math.min(Math.max(point.x, best.box.x0), best.box.x1), y: Math.min(Math.max(point.y, best.box.y0), best.box.y1) };
      svg.insertBefore(make("line", { x1: point.x, y1: point.y, x2: reach.x, y2: reach.y, stroke: point.colour, "stroke-width": 0.8 }), text);
    }
  }
  return left;
}

// One tooltip for the page: shown at a pointer, or under an element that got the focus.
function showTip(target, title, rows) {
  const tip = $("tip");
  tip.replaceChildren(make("h3", {}, title), make("dl", {}, ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])));
  tip.hidden = false;
  const box = target.getBoundingClientRect();
  const x = Math.min(Math.max(8, box.left + box.width / 2 - tip.offsetWidth / 2), document.documentElement.clientWidth - tip.offsetWidth - 8);
  const above = box.top - tip.offsetHeight - 8;
  tip.style.left = `${x + scrollX}px`;
  tip.style.top = `${(above > 4 ? above : box.bottom + 8) + scrollY}px`;
}
const hideTip = () => { $("tip").hidden = true; };
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });

function toggleButton(label, on, change) {
  const button = make("button", { type: "button", "aria-pressed": String(on) }, label);
  button.addEventListener("click", () => {
    const next = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(next));
    change(next);
  });
  return button;
}

function table(columns, rows, mark = () => false) {
  return make("table", {},
    make("thead", {}, make("tr", {}, ...columns.map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, ...rows.map((row, index) => make("tr", { class: mark(index) ? "on" : null }, ...row.map((cell) => make("td", {}, cell))))));
}

// Light or dark: the reader's system decides until the button is used.
(function theme() {
  const button = $("theme");
  if (!button) return;
  const dark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const name = () => { button.textContent = dark() ? "light" : "dark"; };
  button.addEventListener("click", () => { document.documentElement.dataset.theme = dark() ? "light" : "dark"; name(); });
  name();
})();

// Draw again when the width changes, once per frame.
function onWidth(element, draw) {
  let width = 0;
  new ResizeObserver(() => {
    const now = Math.round(element.clientWidth);
    if (now !== width) { width = now; requestAnimationFrame(draw); }
  }).observe(element);
}
