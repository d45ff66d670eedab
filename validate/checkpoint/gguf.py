"""A GGUF file as an ordinary checkpoint: weights dequantised, configuration and tokenizer as transformers has them."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from costmodel.errors import CostModelError, InputError, ModelError
from validate.checkpoint.gguf_header import require_lists_fit
from validate.checkpoint.gguf_whole import Held
from validate.errors import reason_of
from validate.hf.meta import on_meta
from validate.hf.names import DTYPES
from validate.models.weights import require_finite
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
        left_out: what scales positions in the file, which no model of transformers is given.
    """

    architecture: str
    types: dict[str, int]
    params: int
    bytes: int
    sha256: str
    left_out: tuple[str, ...] = ()


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
        ModelError: when transformers cannot read it, or makes something else of it than it holds.
        MeasurementError: when a weight is not finite, or not in this type.
        RunError: when the disk is full or fails.
    """
    require_new(out)
    held = _held(file)
    digest = sha256_of(file)
    kind = DTYPES[dtype][0]
    with new_folder(out, {"gguf": digest, "dtype": dtype}) as place:
        status(f"dequantising {file.name}")
        try:
            wide = torch.float32 if kind is torch.float16 else kind  # whose range is as good as any
            model, tokenizer = _read(file, held, wide)
            for name, weight in model.named_parameters():
                require_finite(weight, name, kind)
            model = _plain(model, kind)
        except CostModelError:
            raise
        except Exception as error:  # transformers raises many kinds
            raise ModelError("cannot read GGUF", value=str(file), hint=reason_of(error)) from error
        status(f"writing {out}")
        model.save_pretrained(place.folder)
        tokenizer.save_pretrained(place.folder)
        found = Imported(
            architecture=type(model).__name__,
            types=held.types,
            params=sum(each.numel() for each in model.parameters()),
            bytes=file.stat().st_size,
            sha256=digest,
            left_out=held.of_positions,
        )
        record = {
            **{"source": file.name, "sha256": digest, "weights": "dequantised", "types": held.types, "dtype": dtype},
            **({"left_out": list(held.of_positions)} if held.of_positions else {}),
        }
        (place.folder / RECORD).write_text(f"{json.dumps(record, indent=1)}\n", encoding="utf-8")
    return found


def _held(file: Path) -> Held:
    """What a GGUF file holds."""
    if importlib.util.find_spec("gguf") is None:
        raise InputError(
            "reading GGUF needs the package gguf", hint="pip install -c constraints.txt '.[gguf]' in the checkout"
        )
    if not file.is_file():
        raise InputError("no such file", value=str(file), allowed="a GGUF file")
    try:
        require_lists_fit(file)
        return Held.read(file)
    except Exception as error:  # any kind, for any content
        raise InputError("not a GGUF file", value=str(file), hint=reason_of(error)) from error


def _read(file: Path, held: Held, dtype: torch.dtype) -> tuple[Any, Any]:
    """The model, dequantised, and the tokenizer.

    Raises:
        ModelError: when the model is not what the file holds.
        Exception: of any kind, when transformers cannot read the file.
    """
    import tqdm
    import transformers
    from transformers import modeling_gguf_pytorch_utils

    reading: Any = modeling_gguf_pytorch_utils
    reading.tqdm = partial(tqdm.tqdm, disable=True)  # a bar of its own, which has no switch
    asked: Any = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
    config = transformers.AutoConfig.from_pretrained(str(file.parent), **asked)
    with on_meta():
        shell = transformers.AutoModelForCausalLM.from_config(config)
    held.require_taken(shell)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(file.parent), **asked)
    auto: Any = transformers.AutoModelForCausalLM
    model, about = auto.from_pretrained(str(file.parent), dtype=dtype, output_loading_info=True, **asked)
    if lacking := sorted(about["missing_keys"]):
        raise ModelError("the file lacks weights of the model", value=lacking[0], hint=f"{len(lacking)} in all")
    return model, tokenizer


def _plain(read: Any, dtype: torch.dtype) -> Any:
    """The model without what says that its file was quantised, which transformers would refuse to save."""
    config = {key: value for key, value in read.config.to_dict().items() if key != "quantization_config"}
    model = type(read)(type(read.config).from_dict(config)).to(dtype)
    model.load_state_dict(read.state_dict(), strict=True)
    model.tie_weights()
    model.generation_config = read.generation_config
    return model
