// What a reader would stumble over in the page or picture that is open: texts that are cut, that stand on each other, that
// are too small or too pale. `least`: pixels that the smallest letters may have. One line for each fault.
(least) => {
  const root = document.documentElement;
  const inPicture = (element) => element.namespaceURI.endsWith("svg");
  const hidden = (element) => element.closest("details:not([open]) > :not(summary)") !== null
    || !element.checkVisibility({ visibilityProperty: true, opacityProperty: true });

  // Colours, and what they lie on.
  const parts = (colour) => {
    const numbers = colour.match(/[\d.]+/g)?.map(Number) ?? [];
    if (numbers.length < 3) return [0, 0, 0, 0];
    const scale = colour.startsWith("color(") ? 255 : 1;
    return [...numbers.slice(0, 3).map((each) => scale * each), numbers[3] ?? 1];
  };
  const over = (front, back, opacity) => front.slice(0, 3).map((each, place) => opacity * each + (1 - opacity) * back[place]);
  const light = (colour) => colour.slice(0, 3).map((each) => each / 255)
    .map((each) => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
    .reduce((sum, each, place) => sum + each * [0.2126, 0.7152, 0.0722][place], 0);
  const contrast = (one, other) => {
    const [pale, deep] = [light(one), light(other)].sort((a, b) => b - a);
    return (pale + 0.05) / (deep + 0.05);
  };
  const paper = (element) => {
    const behind = [];
    for (let each = element; each; each = each.parentElement)
      if (!inPicture(each)) behind.unshift(parts(getComputedStyle(each).backgroundColor));
    return behind.reduce((below, each) => over(each, below, each[3]), [255, 255, 255]);
  };
  const beneath = (text, svg, { x, y }) => {
    let colour = paper(svg);
    for (const shape of svg.querySelectorAll("rect, path, circle, polygon, use")) {
      if (!(shape.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING)) break;
      const style = getComputedStyle(shape), matrix = shape.getScreenCTM();
      if (style.fill === "none" || !shape.isPointInFill || !matrix || shape.closest("defs, clipPath")) continue;
      if (!shape.isPointInFill(new DOMPoint(x, y).matrixTransform(matrix.inverse()))) continue;
      const fill = parts(style.fill);
      colour = over(fill, colour, fill[3] * style.fillOpacity * style.opacity);
    }
    return colour;
  };

  // Texts with the corners of their boxes, turned as they are.
  const corners = ({ left, right, top, bottom }) => [[left, top], [right, top], [right, bottom], [left, bottom]];
  const texts = [], faults = [];
  for (const text of document.querySelectorAll("svg text")) {
    if (!text.textContent.trim() || hidden(text)) continue;
    const svg = text.ownerSVGElement, matrix = text.getScreenCTM(), outer = svg.getBoundingClientRect();
    const bounded = svg === root || getComputedStyle(svg).overflow !== "visible";
    const name = text.textContent.trim().replace(/\s+/g, " "), pieces = text.querySelectorAll("tspan");
    const letters = (each) => parseFloat(getComputedStyle(each).fontSize);  // exponents may be smaller
    const size = Math.max(...(pieces.length ? [...pieces] : [text]).map(letters)) * Math.hypot(matrix.a, matrix.b);
    for (const piece of pieces.length ? pieces : [text]) {
      const box = piece.getBBox(), style = getComputedStyle(piece), place = (x, y) => new DOMPoint(x, y).matrixTransform(matrix);
      const sides = { left: box.x, right: box.x + box.width, top: box.y + 0.1 * box.height, bottom: box.y + 0.9 * box.height };
      const around = corners(sides).map(([x, y]) => place(x, y)).map(({ x, y }) => [x, y]);
      const below = beneath(text, svg, place(box.x + box.width / 2, box.y + box.height / 2));
      texts.push({ name, text, size, around, contrast: contrast(parts(style.fill), below), heavy: style.fontWeight >= 600 });
      if (bounded && around.some(([x, y]) => x < outer.left - 1 || x > outer.right + 1 || y < outer.top - 1 || y > outer.bottom + 1))
        faults.push(`cut: ${name}`);
    }
  }
  const visible = (box, element) => {
    let { left, right, top, bottom } = box;
    for (let each = element; each !== null && each !== document.body; each = each.parentElement) {
      if (getComputedStyle(each).overflowX === "visible") continue;
      const outer = each.getBoundingClientRect();
      [left, right] = [Math.max(left, outer.left), Math.min(right, outer.right)];
      [top, bottom] = [Math.max(top, outer.top), Math.min(bottom, outer.bottom)];
    }
    return { left, right, top, bottom };
  };
  const walker = document.createTreeWalker(document.body ?? root, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement, name = node.textContent.trim().replace(/\s+/g, " ");
    if (!name || element.closest("svg, script, style, noscript, template") || hidden(element)) continue;
    const range = document.createRange(), style = getComputedStyle(element), size = parseFloat(style.fontSize);
    range.selectNodeContents(node);
    for (const rectangle of range.getClientRects()) {
      const box = visible(rectangle, element);
      if (box.right - box.left < 2 || box.bottom - box.top < 2) continue;
      const inset = Math.max(0, (box.bottom - box.top - size) / 2);
      const around = corners({ ...box, top: box.top + inset, bottom: box.bottom - inset });
      texts.push({ name, size, around, contrast: contrast(parts(style.color), paper(element)), heavy: style.fontWeight >= 600 });
      if (box.right > root.clientWidth + 1) faults.push(`beyond the page: ${name}`);
    }
  }
  for (const element of document.body?.querySelectorAll("*") ?? []) {
    if (inPicture(element) || hidden(element) || !element.textContent.trim()) continue;
    const { overflowX, overflowY } = getComputedStyle(element);
    const cut = overflowX === "hidden" && element.scrollWidth > element.clientWidth + 1 || overflowY === "hidden" && element.scrollHeight > element.clientHeight + 1;
    if (cut) faults.push(`cut: ${element.textContent.trim()}`);
  }
  if (document.body && root.scrollWidth > root.clientWidth) faults.push(`the page is ${root.scrollWidth} pixels wide in ${root.clientWidth}`);

  for (const { name, size, contrast, heavy } of texts) {
    if (size < least) faults.push(`${size.toFixed(1)} pixels: ${name}`);
    if (contrast < (size >= 24 || heavy && size >= 18.6 ? 3 : 4.5)) faults.push(`contrast ${contrast.toFixed(1)}: ${name}`);
  }

  // Two boxes meet where no side of either has them apart.
  const apart = (one, other) => one.some(([x, y], place) => {
    const [toX, toY] = one[(place + 1) % 4], [alongX, alongY] = [toX - x, toY - y], length = Math.hypot(alongX, alongY);
    if (!length) return true;
    const reach = (box) => box.map(([u, v]) => (u * -alongY + v * alongX) / length);
    const [mine, theirs] = [reach(one), reach(other)];
    return Math.min(Math.max(...mine), Math.max(...theirs)) - Math.max(Math.min(...mine), Math.min(...theirs)) < 1.5;
  });
  const ends = ({ around }) => [Math.min(...around.map(([, y]) => y)), Math.max(...around.map(([, y]) => y))];
  texts.sort((one, other) => ends(one)[0] - ends(other)[0]);
  texts.forEach((text, place) => {
    for (const other of texts.slice(place + 1)) {
      if (ends(other)[0] > ends(text)[1]) break;
      if (text.text !== undefined && text.text === other.text) continue;
      if (!apart(text.around, other.around) && !apart(other.around, text.around)) faults.push(`${text.name} | ${other.name}`);
    }
  });
  return [...new Set(faults)];
}
