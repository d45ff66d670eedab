"""Folded layer graphs as an SVG: dense beside factored, a row of both for each phase."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from costmodel.files.cells import shown
from costmodel.show.figure import COLOURS, Theme
from costmodel.show.layer_graph import Block, LayerGraph
from costmodel.show.layer_layout import Layout, layout
from costmodel.show.roofline_chart import GROUPS
from costmodel.show.roofline_plot import GROUP_COLOURS
from costmodel.units import percent, seconds, si

if TYPE_CHECKING:
    import networkx as nx

MAX_BLOCKS = 6
"""Blocks of one pass that are drawn; of the rest the picture says how many there are."""
_NODE, _WIDEST, _GAP, _LANE = 124, 300, 14, 22
_HIGH, _ROW = 38, 68
_PAD, _HEAD, _BETWEEN = 16, 44, 34
_MARGIN = 20
_TITLE = 76
_LETTER = 7.0
"""Width of a letter at 12 pixels, with room."""


def layer_svg(title: str, graphs: Sequence[LayerGraph], theme: Theme = "light") -> str:
    """The picture of folded graphs as the text of an SVG file.

    A node has its name, its memory traffic and its time, each of one layer in the mean; the darker, the more of the
    pass's time it takes. Under a node stands the size of what it hands on.
    """
    rows: dict[str, list[LayerGraph]] = {}
    for graph in graphs:
        rows.setdefault(graph.phase, []).append(graph)
    parts: list[str] = []
    top, wide = float(_TITLE), 0.0
    for pair in rows.values():
        left, deepest = float(_MARGIN), 0.0
        for graph in pair:
            drawn, width, height = _column(graph, theme, left, top)
            parts += drawn
            left += width + 2 * _MARGIN
            deepest = max(deepest, height)
        top += deepest + _BETWEEN
        wide = max(wide, left - _MARGIN)
    wide = max(wide, 760.0)
    head = _heading(title, theme, wide)
    ink, paper = COLOURS[theme]["ink"], COLOURS[theme]["paper"]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide:.0f}" height="{top:.0f}" '
            f'viewBox="0 0 {wide:.0f} {top:.0f}" role="img" fill="{ink}" '
            'font-family="system-ui, -apple-system, Segoe UI, Roboto, Arial, sans-serif" font-size="12">',
            f"<title>{_text(title)}</title>",
            f'<rect width="100%" height="100%" fill="{paper}"/>',
            *head,
            *parts,
            "</svg>\n",
        ]
    )


def _text(value: str) -> str:
    return escape(shown(value))


def _write(x: float, y: float, value: str, *, most: float = 0.0, **style: Any) -> str:
    """A text, cut where it is wider than `most` pixels; underlines in names of attributes become dashes."""
    size = float(style.get("font_size", 12))
    if most and len(value) * _LETTER * size / 12 > most:
        value = value[: max(1, int(most / (_LETTER * size / 12)) - 1)] + "\N{HORIZONTAL ELLIPSIS}"
    extra = "".join(f' {name.replace("_", "-")}="{each}"' for name, each in style.items())
    return f'<text x="{x:.1f}" y="{y:.1f}"{extra}>{_text(value)}</text>'


def _heading(title: str, theme: Theme, wide: float) -> list[str]:
    colours = COLOURS[theme]
    parts = [_write(_MARGIN, 26, title, most=wide - 2 * _MARGIN, font_size=15, font_weight=600)]
    x = float(_MARGIN)
    for key, name in GROUPS.items():
        parts.append(f'<rect x="{x:.1f}" y="40" width="12" height="12" rx="2" fill="{colours[GROUP_COLOURS[key]]}"/>')
        parts.append(_write(x + 17, 50, name, fill=colours["muted"]))
        x += 17 + len(name) * _LETTER + 14
    parts.append(_write(x, 50, "thick border: factor", fill=colours["muted"]))
    return parts


def _column(graph: LayerGraph, theme: Theme, left: float, top: float) -> tuple[list[str], float, float]:
    """The parts of one pass, its width and its height."""
    colours = COLOURS[theme]
    blocks = graph.blocks
    left_out = len(blocks) - MAX_BLOCKS
    if left_out > 0:
        blocks = (*blocks[: MAX_BLOCKS - 1], blocks[-1])
    layouts = [(block, _layout(graph, block)) for block in blocks]
    width = max(320.0, *(each.width + 2 * _PAD for _, each in layouts))
    name = f"{graph.variant}, {graph.phase}: {seconds(graph.latency_s)} on the device"
    parts = [
        _write(left, top + 14, name, most=width, font_weight=600, font_size=13),
        _write(left, top + 31, graph.title, most=width, fill=colours["muted"], font_size=11),
    ]
    y = top + _HEAD
    for place, (block, each) in enumerate(layouts):
        if place:
            middle = left + width / 2
            parts.append(_arrow([(middle, y - _BETWEEN), (middle, y - 3)], colours["muted"]))
            size = _handed_on(graph, layouts[place - 1][0])
            text = f"{si(size, 'B')} of hidden states" if size else ""
            if left_out > 0 and place == len(layouts) - 1:
                text = f"{left_out} more kinds of layers are not drawn"
            parts.append(_write(middle + 10, y - 13, text, fill=colours["muted"], font_size=11))
        drawn, height = _block(graph, block, each, theme, (left, y, width))
        parts += drawn
        y += height + _BETWEEN
    return parts, width, y - _BETWEEN - top


def _layout(graph: LayerGraph, block: Block) -> Layout:
    import networkx as nx

    inner: nx.DiGraph[str] = nx.DiGraph()
    names = graph.nodes_of(block)
    order = {name: place for place, name in enumerate(names)}
    names.sort(key=lambda name: (graph.graph.nodes[name]["kind"] != "entry", order[name]))
    inner.add_nodes_from(names)
    for source, target, kind in graph.graph.subgraph(names).edges(data="kind"):
        if kind == "read" and graph.graph.nodes[target]["kind"] != "entry":
            inner.add_edge(source, target)
    return layout(inner, _node_width(graph, block) + _GAP, _LANE)


def _label(graph: LayerGraph, name: str) -> str:
    data = graph.graph.nodes[name]
    return str(data["label"]) + (_rank(data["gemm"]) if data["factor"] else "")


def _node_width(graph: LayerGraph, block: Block) -> float:
    """Of a block's nodes, all alike: as its longest label needs."""
    return min(_WIDEST, max(_NODE, *(len(_label(graph, name)) * _LETTER + 10 for name in graph.nodes_of(block))))


def _handed_on(graph: LayerGraph, block: Block) -> int:
    """Bytes that the last operation of a block's layer hands on."""
    data = graph.graph.nodes[graph.nodes_of(block)[-1]]
    if not block.layers:
        inside = [
            size
            for source, target, size in graph.graph.edges(data="bytes")
            if graph.graph.nodes[source]["block"] == block.name and graph.graph.nodes[target]["kind"] == "entry"
        ]
        return max(inside, default=0)
    return int(data["out_bytes"] // max(1, data["layers"]))


def _block(
    graph: LayerGraph, block: Block, inner: Layout, theme: Theme, box: tuple[float, float, float]
) -> tuple[list[str], float]:
    """A block's parts and its height, in a box of this left edge, top and width."""
    colours = COLOURS[theme]
    left, top, width = box
    height = 30 + inner.rows * _ROW
    share = block.latency_s / graph.latency_s if graph.latency_s else 0.0
    parts = [
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="8" fill="none" '
        f'stroke="{colours["grid"]}" stroke-width="1.5"/>',
        _write(left + 10, top + 18, block.name, most=width - 150, font_weight=600),
        _write(
            left + width - 10,
            top + 18,
            f"{seconds(block.latency_s, 3)}, {percent(share, 0)}",
            text_anchor="end",
            fill=colours["muted"],
        ),
    ]
    start = left + (width - inner.width) / 2

    def at(place: tuple[float, int]) -> tuple[float, float]:
        return start + place[0], top + 30 + place[1] * _ROW

    for route in inner.routes.values():
        points = [at(place) for place in route]
        path = [(points[0][0], points[0][1] + _HIGH)]
        for x, y in points[1:-1]:
            path += [(x, y), (x, y + _HIGH)]
        parts.append(_arrow([*path, (points[-1][0], points[-1][1] - 1)], colours["muted"]))
    node = _node_width(graph, block)
    for name, place in inner.places.items():
        parts += _node(graph, name, at(place), node, theme)
    return parts, height


def _node(graph: LayerGraph, name: str, at: tuple[float, float], width: float, theme: Theme) -> list[str]:
    colours = COLOURS[theme]
    data = graph.graph.nodes[name]
    x, y = at[0] - width / 2, at[1]
    count = max(1, data["layers"])
    share = data["latency_s"] / graph.latency_s if graph.latency_s else 0.0
    colour = colours[GROUP_COLOURS[data["group"]]] if data["group"] else colours["muted"]
    label = _label(graph, name)
    details = f"{data['label']}: {data['gemm'] + ', ' if data['gemm'] else ''}{percent(share)} of the pass"
    box = f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_HIGH}" rx="6"'
    parts = [
        f'<g><title>{_text(details)}</title>{box} fill="{colours["paper"]}"/>{box} fill="{colour}" '
        f'fill-opacity="{0.06 + min(0.5, 2.2 * share):.2f}" stroke="{colour}" '
        f'stroke-width="{2.2 if data["factor"] else 1}"/>'
    ]
    if data["kind"] == "entry":
        parts.append(_write(at[0], y + 23, label, text_anchor="middle", font_style="italic"))
    else:
        cost = f"{si(data['hbm_bytes'] / count, 'B')} · {seconds(data['latency_s'] / count, 3)}"
        parts.append(_write(at[0], y + 16, label, most=width - 6, text_anchor="middle"))
        parts.append(_write(at[0], y + 31, cost, text_anchor="middle", font_size=11, fill=colours["ink"]))
    readers = any(kind == "read" for _, _, kind in graph.graph.out_edges(name, data="kind"))
    if data["out_bytes"] and readers:
        size = si(data["out_bytes"] / count, "B")
        wide = len(size) * _LETTER * 10 / 12
        parts.append(  # lines that bend here pass behind it: through a number they would be read as part of it
            f'<rect x="{at[0] + 4:.1f}" y="{y + _HIGH + 4:.1f}" width="{wide + 2:.1f}" height="12" '
            f'fill="{colours["paper"]}"/>'
        )
        parts.append(_write(at[0] + 6, y + _HIGH + 13, size, font_size=10, fill=colours["muted"]))
    return [*parts, "</g>"]


def _rank(shape: str) -> str:
    """The rank of a factor of n x k, where it is one number."""
    sides = shape.split(" x ")
    return f", rank {min(map(int, sides))}" if len(sides) == 2 else ", several ranks"


def _arrow(points: Sequence[tuple[float, float]], colour: str) -> str:
    """A line of smooth bends with a head at its end."""
    (x, y), *rest = points
    path = f"M{x:.1f},{y:.1f}"
    for px, py in rest:
        middle = (y + py) / 2
        path += f"C{x:.1f},{middle:.1f} {px:.1f},{middle:.1f} {px:.1f},{py:.1f}"
        x, y = px, py
    head = f"M{x - 3.5:.1f},{y - 6:.1f}L{x:.1f},{y:.1f}L{x + 3.5:.1f},{y - 6:.1f}"
    return f'<path d="{path}{head}" fill="none" stroke="{colour}" stroke-width="1.1" stroke-opacity="0.75"/>'
