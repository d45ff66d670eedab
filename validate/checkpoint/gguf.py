"""A GGUF file as an ordinary checkpoint: weights dequantised, configuration and tokenizer as transformers has them."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from costmodel.errors import InputError, ModelError
from validate.checkpoint.gguf_header import require_lists_fit
from validate.errors import reason_of
from validate.hf.names import DTYPES
from validate.store.digests import sha256_of
from validate.store.new_folder import new_folder, require_new

RECORD = "imported.json"
"""Where the weights come from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What was written.

    Attributes:
        types: how many tensors the file stores in each type, the quantised ones first by number.
        params: of the model, tied ones once.
        bytes: of the file that was read.
    """

    architecture: str
    types: dict[str, int]
    params: int
    bytes: int
    sha256: str


def import_gguf(
    file: Path,
    out: Path,
    dtype: Literal["fp32", "bf16", "fp16"],
    status: Callable[[str], None] = lambda text: None,
) -> Imported:
    """Write the folder `out`, which must not exist.

    The result computes what the quantised file stands for, and is no better: a quantised weight is widened, not
    restored.

    Args:
        status: told what is being done.

    Raises:
        InputError: when the file is missing or no GGUF, the package gguf is not installed, or `out` exists.
        ModelError: when transformers cannot read it.
        RunError: when the disk is full or fails.
    """
    import transformers

    require_new(out)
    types = _types(file)
    digest = sha256_of(file)
    kind = DTYPES[dtype][0]
    with new_folder(out, {"gguf": digest, "dtype": dtype}) as place:
        status(f"dequantising {file.name}")
        try:
            read: Any = transformers.AutoModelForCausalLM.from_pretrained(
                str(file.parent), gguf_file=file.name, dtype=kind, local_files_only=True, trust_remote_code=False
            )
            tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
                str(file.parent), gguf_file=file.name, local_files_only=True, trust_remote_code=False
            )
            model = _plain(read, kind)
        except Exception as error:  # transformers raises many kinds
            raise ModelError("cannot read GGUF", value=str(file), hint=reason_of(error)) from error
        status(f"writing {out}")
        model.save_pretrained(place.folder)
        tokenizer.save_pretrained(place.folder)
        found = Imported(
            architecture=type(model).__name__,
            types=types,
            params=sum(each.numel() for each in model.parameters()),
            bytes=file.stat().st_size,
            sha256=digest,
        )
        record = {"source": file.name, "sha256": digest, "weights": "dequantised", "types": types, "dtype": dtype}
        (place.folder / RECORD).write_text(f"{json.dumps(record, indent=1)}\n", encoding="utf-8")
    return found


def _types(file: Path) -> dict[str, int]:
    """Number of tensors of each type of a GGUF file."""
    if importlib.util.find_spec("gguf") is None:
        raise InputError("reading GGUF needs the package gguf", hint="pip install 'costmodel[gguf]'")
    import gguf

    if not file.is_file():
        raise InputError("no such file", value=str(file), allowed="a GGUF file")
    try:
        require_lists_fit(file)
        tensors = gguf.GGUFReader(file).tensors
    except Exception as error:  # any kind, for any content
        raise InputError("not a GGUF file", value=str(file), hint=reason_of(error)) from error
    return dict(Counter(tensor.tensor_type.name for tensor in tensors).most_common())


def _plain(read: Any, dtype: torch.dtype) -> Any:
    """The model without what says that its file was quantised, which transformers would refuse to save."""
    config = {key: value for key, value in read.config.to_dict().items() if key != "quantization_config"}
    model = type(read)(type(read.config).from_dict(config)).to(dtype)
    model.load_state_dict(read.state_dict(), strict=True)
    model.tie_weights()
    model.generation_config = read.generation_config
    return model
