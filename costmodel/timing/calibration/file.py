"""The JSON form of a calibration: reads and checks it. `hw_profiles/calibrations/README.md` documents the schema."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from costmodel.errors import CalibrationError
from costmodel.files.node import Node
from costmodel.files.read import decode_json, read_text
from costmodel.timing.calibration.base import Base
from costmodel.timing.calibration.elsewhere import DIFFERS, Elsewhere
from costmodel.timing.calibration.features import ATTENTION_INPUTS, GEMM_INPUTS
from costmodel.timing.calibration.memo import Memo
from costmodel.timing.calibration.net import Net
from costmodel.timing.calibration.probes import GENERAL_STREAM
from costmodel.timing.calibration.shaped import DIMENSIONS, FORMS, Alignment, FormKind, FormName, ShapedForm, StreamForm
from costmodel.timing.calibration.spread import Spread

SCHEMA = 1
"""Version of the file format; raise it when a key is renamed, dropped or changes its meaning."""
MAX_FILE_BYTES = 300_000
STREAM_KINDS = (GENERAL_STREAM, "norm", "rope", "activation", "embedding", "kv_cache", "attention")
_INPUTS = {"gemm": GEMM_INPUTS, "prefill": ATTENTION_INPUTS, "decode": ATTENTION_INPUTS}


def read_calibration_text(path: Path) -> str:
    """The text of a file.

    Raises:
        CalibrationError: when it cannot be read, is too large or not UTF-8.
    """
    return read_text(path, "calibration", CalibrationError, limit=MAX_FILE_BYTES)


def parse_node(text: str, path: str) -> Node:
    """The content of a text from `path`, its schema checked.

    Raises:
        CalibrationError: when it is not JSON or has another schema.
    """
    node = Node(path, decode_json(text, path, "calibration", CalibrationError), CalibrationError)
    schema = node.entries(["schema"])["schema"]
    if type(schema.value) is not int or schema.value != SCHEMA:
        raise schema.wrong(str(SCHEMA), "written for another version of costmodel; fit it again with `validate fit`")
    return node


def read_shaped(node: Node, kind: FormKind, elsewhere: tuple[Elsewhere, ...] = ()) -> ShapedForm:
    """A form by shape, with what others measured of it."""
    keys = ("base", "net", "spread", "cores", "cache_bytes", "element_bytes", "low", "high", "multiple")
    part = node.table(keys, ["alignment", "output_bytes", "cold_bytes", "cache_element_bytes"])
    count = len(DIMENSIONS[kind])
    alignment = part.get("alignment")
    low, high = part["low"].array((count,), 1), part["high"].array((count,), 1)
    if (low > high).any():
        raise part["low"].wrong("at most `high` in every dimension")
    return ShapedForm(
        kind=kind,
        base=_base(part["base"]),
        net=_net(part["net"], _INPUTS[kind]),
        spread=_spread(part["spread"]),
        alignment=_alignment(alignment) if alignment is not None and alignment.value is not None else None,
        cores=part["cores"].integer(1, 1_000_000),
        cache_bytes=part["cache_bytes"].number(1, 1e15),
        element_bytes=part["element_bytes"].integer(1, 8),
        cache_element_bytes=part.get("cache_element_bytes", part["element_bytes"]).integer(1, 8),
        low=low,
        high=high,
        multiple=_power_of_two(part["multiple"]),
        output_bytes=part["output_bytes"].integer(1, 8) if "output_bytes" in part else None,
        cold_bytes=part["cold_bytes"].number(0, 1e15) if "cold_bytes" in part else 0.0,
        elsewhere=elsewhere,
        memo=Memo() if kind == "gemm" else None,
    )


def read_elsewhere(node: Node) -> dict[FormName, tuple[Elsewhere, ...]]:
    """What others measured, by form."""
    found: dict[FormName, tuple[Elsewhere, ...]] = {}
    for item in node.items():
        part = item.table(["form", "differs", "source", "points", "size_edges", "bias", "sd"])
        part["points"].integer(1, 1_000_000_000)
        name = part["form"].choice(list(FORMS))
        edges = part["size_edges"].array((None,), 0)
        if (np.diff(edges) <= 0).any():
            raise part["size_edges"].wrong("increasing numbers")
        cells = (len(edges) + 1,)
        entry = Elsewhere(
            differs=part["differs"].choice(DIFFERS),
            source=part["source"].text(),
            size_edges=edges,
            bias=part["bias"].array(cells, -5, 5),
            sd=part["sd"].array(cells, 0, 5),
        )
        found[name] = (*found.get(name, ()), entry)
    return found


def read_streams(node: Node) -> Mapping[str, StreamForm]:
    """The forms by class of operation."""
    entries = node.table([GENERAL_STREAM], [kind for kind in STREAM_KINDS if kind != GENERAL_STREAM])
    forms = {}
    for kind, entry in entries.items():
        part = entry.table(["base", "log2_bytes", "ln_factor", "low", "high", "source"])
        part["source"].text()
        knots = part["log2_bytes"].array((None,), 0, 100)
        if (np.diff(knots) <= 0).any():
            raise part["log2_bytes"].wrong("increasing numbers")
        forms[kind] = StreamForm(
            base=_base(part["base"]),
            log2_bytes=knots,
            ln_factor=part["ln_factor"].array((len(knots),), -5, 5),
            low=part["low"].number(-10, 0),
            high=part["high"].number(0, 10),
        )
    return forms


def _power_of_two(node: Node) -> int:
    value = node.integer(1, 1 << 20)
    if value & (value - 1):
        raise node.wrong("a power of two")
    return value


def _base(node: Node) -> Base:
    part = node.table(["flops_per_s", "bytes_per_s", "fixed_s", "overlap"])
    return Base(
        flops_per_s=part["flops_per_s"].number(1, 1e24),
        bytes_per_s=part["bytes_per_s"].number(1, 1e24),
        fixed_s=part["fixed_s"].number(0, 1),
        overlap=part["overlap"].number(1, 100),
    )


def _alignment(node: Node) -> Alignment:
    part = node.table(["compute_8", "compute_1", "memory_1", "source"])
    part["source"].text()
    return Alignment(**{name: part[name].number(1, 100) for name in ("compute_8", "compute_1", "memory_1")})


def _spread(node: Node) -> Spread:
    part = node.table(["base_edges", "size_edges", "low", "high", "outside"])
    base_edges, size_edges = part["base_edges"].array((None,), 0), part["size_edges"].array((None,), 0)
    for name, edges in (("base_edges", base_edges), ("size_edges", size_edges)):
        if (np.diff(edges) <= 0).any():
            raise part[name].wrong("increasing numbers")
    shape = (len(base_edges) + 1, len(size_edges) + 1)
    return Spread(
        base_edges=base_edges,
        size_edges=size_edges,
        low=part["low"].array(shape, -10, 0),
        high=part["high"].array(shape, 0, 10),
        outside=part["outside"].number(1, 100),
    )


def _net(node: Node, inputs: int) -> Net:
    part = node.table(["centre", "scale", "weights", "biases"])
    layers, biases = part["weights"].items(), part["biases"].items()
    if not 1 <= len(layers) <= 8 or len(layers) != len(biases):
        raise part["weights"].wrong("1 to 8 layers, as many as biases")
    weights, offsets, size = [], [], inputs
    for layer, bias in zip(layers, biases, strict=True):
        offset = bias.array((None,), -1e6, 1e6)
        weights.append(layer.array((size, len(offset)), -1e6, 1e6))
        offsets.append(offset)
        size = len(offset)
    if size != 1:
        raise biases[-1].wrong("one number")
    return Net.of(weights, offsets, part["centre"].array((inputs,)), part["scale"].array((inputs,), 1e-9))
