"""The page docs/families.md, made from the registry.

python -m studies.families.page
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from costmodel.families.registry import FAMILIES
from costmodel.families.row import FamilyRow

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "families.md"
EXAMPLE = ROOT / "costmodel" / "families" / "gemma.py"

_BEGINNING = """# Model families

Made from the registry by `python -m studies.families.page`; a test holds the two together.

A `config.json` is read by the row of its `model_type`. A row is **verified** when a test compares kernels and live
bytes with the real modules; of the others these two follow **from the topology**, and every estimate says so.
Parameters and FLOPs are exact for all rows: equal to transformers' classes and to torch's FLOP counter, dense and
factored. Classes of a repository's own code, which transformers lacks, are held against published parameter counts.

What is priced is the class that `architectures` names, with its head; without one a decoder is a causal LM and an
encoder its body. Of a model around a language model (vision, audio) the language model alone is priced, and the answer
says so. Quantised checkpoints are priced with the bytes that they hold, scales and zero points included.

## What is supported

| row | model types | what it is | kernels and live bytes |
|---|---|---|---|
"""
_MIDDLE = """
## How to add a family

One file in `costmodel/families/`, one line of `FAMILIES` of `costmodel/families/registry.py`; then
`python -m studies.families.defaults` writes what transformers takes for absent fields, and `python -m
studies.families.page` this page. `tests/costmodel/families/test_rows.py` picks every type of every row up by itself and
compares it with transformers.

A family whose layer is one of the ways that `costmodel.words.Words` can say needs its words alone. All of Gemma is

```python
"""
_END = """```

A family of another make brings functions of its own: `tensors`, `prologue`, `layer`, `epilogue`, as
`costmodel/families/gpt2.py` does in a hundred lines; `FamilyRow` says what each of them must do.

`python -m studies.families.table FOLDER` judges a folder of configurations: accepted with transformers' parameters,
refused by name, or wrong; `studies/families/README.md` has the outcome on 214 published files.
"""


def page() -> str:
    """The whole page."""
    code = EXAMPLE.read_text(encoding="utf-8").partition("\n\nfrom __future__ import annotations\n\n")[2]
    return _BEGINNING + "\n".join(_lines()) + "\n" + _MIDDLE + code + _END


def _lines() -> Iterator[str]:
    for row in FAMILIES.all():
        types = ", ".join(f"`{name}`" for name in row.classes)
        known = "verified" if row.verified else "from the topology"
        yield f"| {row.name} | {types} | {_kind(row)} | {known} |"


def _kind(row: FamilyRow) -> str:
    return "decoder" if row.causal else "encoder"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
