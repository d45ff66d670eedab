"""Write a checkpoint of random weights with a model's true shapes, to try what memory and time a command needs.

    python -m studies.models.random_model --model tinyllama-1.1b --out random-1.1b
    validate sensitivity --model random-1.1b --text some.txt --out random-1.1b.sensitivity

Weights are normal with deviation 0.02, norms 1 and biases 0, made and written a gigabyte at a time, so a model larger
than memory can be written; the folder appears when it is complete. The tokenizer has one token for each byte, so any
text will do. Needs torch.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedTokenizerFast

from costmodel.cli import run
from costmodel.families.load import load_model, read_config
from validate.store.new_folder import new_folder, require_new

_SHARD_BYTES = 10**9
_DEVIATION = 0.02
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def write_random_model(name: str, out: Path, *, dtype: str, seed: int) -> int:
    """Write the checkpoint and return its bytes; the folder appears when it is complete.

    Raises:
        InputError: when the model is unknown or the folder exists.
        RunError: when the disk has no room or fails.
    """
    spec, config = load_model(name), read_config(name)
    auto: Any = AutoModelForMaskedLM if spec.is_encoder else AutoModelForCausalLM
    settings = CONFIG_MAPPING[spec.model_type].from_dict({**config, "dtype": str(_DTYPES[dtype]).partition(".")[2]})
    with torch.device("meta"):
        model = auto.from_config(settings)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}  # tied ones once
    require_new(out, sum(math.prod(shape) for shape in shapes.values()) * _DTYPES[dtype].itemsize)
    with new_folder(out, {"random": {**config}, "dtype": dtype, "seed": seed}) as work:
        total = _write_weights(shapes, work.folder, dtype, seed)
        settings.save_pretrained(work.folder)
        _tokenizer().save_pretrained(work.folder)
    return total


def _write_weights(shapes: Mapping[str, torch.Size], folder: Path, dtype: str, seed: int) -> int:
    generator = torch.Generator().manual_seed(seed)
    shard: dict[str, torch.Tensor] = {}
    places: dict[str, str] = {}
    held = total = 0
    for count, (key, shape) in enumerate(shapes.items(), 1):
        shard[key] = _weight(key, shape, generator).to(_DTYPES[dtype])
        held += shard[key].nbytes
        if held >= _SHARD_BYTES or count == len(shapes):
            file = f"model-{1 + len(set(places.values())):05d}.safetensors"
            save_file(shard, folder / file, metadata={"format": "pt"})
            places |= dict.fromkeys(shard, file)
            shard, held, total = {}, 0, total + held
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    return total


def _weight(name: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    if len(shape) > 1:
        return torch.empty(shape).normal_(0, _DEVIATION, generator=generator)
    return torch.full(shape, 0.0 if name.endswith("bias") else 1.0)


def _tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={byte: index for index, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)  # type: ignore[no-untyped-call]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--model", required=True, metavar="NAME|PATH", help="A built-in model or a config.json.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder; must not exist.")
@click.option("--dtype", type=click.Choice(list(_DTYPES)), default="bf16", show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def command(model: str, out: Path, dtype: str, seed: int) -> None:
    """Write a checkpoint of random weights with a model's true shapes."""
    size = write_random_model(model, out, dtype=dtype, seed=seed)
    click.echo(f"{out}: {size / 1e9:.2f} GB of random weights")


if __name__ == "__main__":
    sys.exit(run(command))  # type: ignore[arg-type]
