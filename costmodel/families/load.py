"""Where a model comes from: a built-in name, a Hugging Face config.json, or a folder that holds one."""

from __future__ import annotations

import functools
import json
import os
from dataclasses import replace
from pathlib import Path

from costmodel.errors import ModelError
from costmodel.families.fields import LIMITS
from costmodel.families.hub import hub_config, is_hub_name
from costmodel.families.quantised import KEYS as QUANTISED_KEYS
from costmodel.families.registry import own_config, spec_from_config
from costmodel.families.stored import has_own_bias, has_own_head
from costmodel.files.read import decode_json, read_text
from costmodel.model import ModelSpec

_FOLDER = Path(__file__).parent / "configs"
_MAX_BYTES = 16 * 10**6
"""A config.json is a few kilobytes; anything above this is another file."""
_LFS_POINTER = "version https://git-lfs.github.com/spec/"
_MODELOPT = "hf_quant_config.json"

HUB_NAMES = {
    "llama2-7b": "meta-llama/Llama-2-7b-hf",
    "llama2-13b": "meta-llama/Llama-2-13b-hf",
    "llama2-70b": "meta-llama/Llama-2-70b-hf",
    "llama3-8b": "meta-llama/Meta-Llama-3-8B",
    "llama3-70b": "meta-llama/Meta-Llama-3-70B",
    "llama3.1-8b": "meta-llama/Llama-3.1-8B",
    "llama3.3-70b": "meta-llama/Llama-3.3-70B-Instruct",
    "llama3.2-1b": "meta-llama/Llama-3.2-1B",
    "tinyllama-1.1b": "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
    "mistral-7b": "mistralai/Mistral-7B-v0.1",
    "qwen2.5-0.5b": "Qwen/Qwen2.5-0.5B",
    "qwen2.5-1.5b": "Qwen/Qwen2.5-1.5B",
    "qwen2.5-7b": "Qwen/Qwen2.5-7B",
    "qwen3-0.6b": "Qwen/Qwen3-0.6B",
    "qwen3-4b": "Qwen/Qwen3-4B",
    "qwen3-8b": "Qwen/Qwen3-8B",
    "gemma3-270m": "google/gemma-3-270m",
    "gemma3-1b": "google/gemma-3-1b-pt",
    "gemma3-4b": "google/gemma-3-4b-pt",
    "gemma3-27b": "google/gemma-3-27b-pt",
    "phi4": "microsoft/phi-4",
    "smollm2-135m": "HuggingFaceTB/SmolLM2-135M",
    "qwen3-30b-a3b": "Qwen/Qwen3-30B-A3B",
    "mixtral-8x7b": "mistralai/Mixtral-8x7B-v0.1",
    "gpt-oss-20b": "openai/gpt-oss-20b",
    "gpt-oss-120b": "openai/gpt-oss-120b",
    "deepseek-v3": "deepseek-ai/DeepSeek-V3",
    "bert-base": "google-bert/bert-base-uncased",
    "bert-large": "google-bert/bert-large-uncased",
    "roberta-base": "FacebookAI/roberta-base",
    "roberta-large": "FacebookAI/roberta-large",
    "modernbert-base": "answerdotai/ModernBERT-base",
    "xlm-roberta-base": "FacebookAI/xlm-roberta-base",
    "minilm-l6": "sentence-transformers/all-MiniLM-L6-v2",
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
    "opt-125m": "facebook/opt-125m",
    "opt-350m": "facebook/opt-350m",
    "opt-1.3b": "facebook/opt-1.3b",
    "opt-6.7b": "facebook/opt-6.7b",
}
"""Built-in name -> the Hugging Face repository whose configuration it is; both can be given to `load_model`."""

OWN_NAMES = ("llama-70m",)
"""Built-in models of our own: llama-70m is the default of `validate`, shaped as its big relatives (grouped-query
attention, gated MLP), small enough for two cores and larger than their caches."""


def builtin_models() -> tuple[str, ...]:
    """The built-in names, by family and size."""
    return (*HUB_NAMES, *OWN_NAMES)


def load_model(name_or_path: str | Path, num_layers: int | None = None, *, bare: bool = False) -> ModelSpec:
    """The model called `name_or_path`.

    Args:
        name_or_path: a built-in name (it wins over a file called so: write `./gpt2` or a Path for that), the path of a
            config.json or of a folder with one, or a name on the Hugging Face hub (built-in models', or taken from the
            local cache, else from the hub). Built-in names ignore case. The LM head is the token embedding where the
            file says so, unless weight files beside it hold one of its own.
        num_layers: build that many layers instead of the configuration's own number, for small tests and what-ifs.
        bare: the causal LM or the encoder's body, whatever class the file names, with plain weights.

    Returns:
        The spec; the same object for the same name or file, its content and num_layers, which other caches go by.

    Raises:
        ModelError: when there is no such model, when the file cannot be read or is not a JSON object, when the
            architecture is not supported, or when a field is missing, of the wrong type or out of bounds.
    """
    limit = LIMITS["num_hidden_layers"]
    if num_layers is not None and (type(num_layers) is not int or not 1 <= num_layers <= limit):
        raise ModelError("num_layers", value=num_layers, allowed=f"a whole number from 1 to {limit:,}")
    if isinstance(name_or_path, str):
        name = _short_name(name_or_path)
        if name is not None:
            return _load_builtin(name, num_layers, bare)
    path = _find(name_or_path)
    name = path.parent.resolve().name if path.name == "config.json" else path.stem
    if isinstance(name_or_path, str) and is_hub_name(name_or_path) and not Path(name_or_path).exists():
        name = name_or_path.partition("/")[2]
    name = os.fsencode(name or str(path)).decode("utf-8", "backslashreplace")  # names of files may be no text
    asked = (_true_text(path), name, str(path), num_layers, bare, _beside(path))
    spec = _of_text(*asked)
    tied = spec.head.tied if path.name == "config.json" else None
    if tied is None:
        return spec
    weight = has_own_head(path.parent, f"{tied.path}.weight")
    bias = tied.second_bias and has_own_bias(path.parent, tied.path)
    return _with_own_head(*asked, weight, bias) if weight or bias else spec


def read_config(name_or_path: str | Path) -> dict[str, object]:
    """The decoded config.json of what `load_model` takes, for a library that builds the model itself; where a language
    model stands inside another, its part.

    Where the weight files beside it hold an LM head of its own, `tie_word_embeddings` is false whatever the file says:
    the spec of the result is that of `load_model`.

    Raises:
        ModelError: when there is no such model, or its file cannot be read, is not a JSON object or not supported.
    """
    name = _short_name(name_or_path) if isinstance(name_or_path, str) else None
    path = _FOLDER / f"{name}.json" if name is not None else _find(name_or_path)
    return own_config(_decoded(_true_text(path), str(path), _beside(path)), str(path))


def _true_text(path: Path) -> str:
    """The text of a config.json that is not tied where the weight files beside it hold an LM head of its own."""
    text = _text(path)
    if path.name != "config.json" or not has_own_head(path.parent):
        return text
    try:
        tied = _of_text(text, str(path), str(path), None, True).tie_embeddings
    except ModelError:  # the file is not read, whatever its weights are
        return text
    return json.dumps({**_decoded(text, str(path)), "tie_word_embeddings": False}) if tied else text


@functools.lru_cache(maxsize=256)
def _load_builtin(name: str, num_layers: int | None, bare: bool = False) -> ModelSpec:
    source = f"built-in model {name}"
    return _of_text(_text(_FOLDER / f"{name}.json"), name, source, num_layers, bare)


@functools.lru_cache(maxsize=16)
def _of_text(text: str, name: str, source: str, num_layers: int | None, bare: bool, beside: str = "") -> ModelSpec:
    config = _decoded(text, source, beside)
    return spec_from_config(config, name=name, source=source, num_layers=num_layers, bare=bare)


@functools.lru_cache(maxsize=16)
def _with_own_head(
    text: str, name: str, source: str, num_layers: int | None, bare: bool, beside: str, weight: bool, bias: bool
) -> ModelSpec:
    """Of a masked LM whose weight files hold what config.json says is the token embedding, or the other bias."""
    spec = _of_text(text, name, source, num_layers, bare, beside)
    head = spec.head.with_own_bias() if bias else spec.head
    return replace(spec, head=head.with_own_weight() if weight else head)


def _short_name(text: str) -> str | None:
    """The built-in name that `text` is, or is the Hugging Face name of unless a path exists by that name."""
    wanted = text.lower()
    if wanted in builtin_models():
        return wanted
    name = next((short for short, full in HUB_NAMES.items() if wanted == full.lower()), None)
    return None if name is None or Path(text).exists() else name


def _find(given: str | Path) -> Path:
    """The file to read for a name that is not built in."""
    path = Path(given)
    try:
        if given != "" and path.is_dir():
            if not (path / "config.json").exists():
                raise ModelError("folder without config.json", value=str(given), allowed="a folder with a config.json")
            return path / "config.json"
        if given != "" and path.exists():
            return path
    except (OSError, ValueError) as error:  # a name too long, a NUL byte, a folder that may not be entered
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelError("cannot look up model", value=str(given), hint=reason) from error
    if isinstance(given, str) and is_hub_name(given):
        return hub_config(given)
    allowed = "a built-in name, a config.json or a folder with one, or owner/name on the Hugging Face hub"
    raise ModelError("unknown model", value=str(given), allowed=allowed, hint=_suggestion(path.name))


def _suggestion(name: str) -> str:
    """Built-in models of the same family that are called nearly so, or how to list all."""
    import difflib  # takes long to load, and a right name needs no suggestion

    wanted = name.lower()
    family = _stem(wanted)
    known = [each for each in builtin_models() if len(family) > 2 and _alike(family, _stem(each))]
    close = difflib.get_close_matches(wanted, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else "list the built-in ones with `costmodel models list`"


def _stem(name: str) -> str:
    """The letters that a name begins with: `qwen` of `qwen3-8b`."""
    return name[: next((place for place, letter in enumerate(name) if not letter.isalpha()), len(name))]


def _alike(one: str, other: str) -> bool:
    from difflib import SequenceMatcher

    return SequenceMatcher(None, one, other).ratio() > 0.8


def _text(path: Path) -> str:
    text = read_text(path, "model file", ModelError, limit=_MAX_BYTES)
    if text.startswith(_LFS_POINTER):
        raise ModelError(f"{path}: a Git LFS pointer in place of the file", hint="fetch the file itself: git lfs pull")
    return text


def _beside(path: Path) -> str:
    """The text of the file in which ModelOpt says that the weights are quantised; empty where there is none."""
    marked = path.parent / _MODELOPT
    return _text(marked) if path.name == "config.json" and marked.is_file() else ""


def _decoded(text: str, source: str, beside: str = "") -> dict[str, object]:
    """The JSON object that the text of `source` is, with what the file `beside` it says about quantised weights."""
    data = decode_json(text, source, "model file", ModelError, constants=True)
    if not isinstance(data, dict):
        raise ModelError(f"{source}: not a JSON object", value=data, allowed='such as {"model_type": "llama", ...}')
    if not beside or any(data.get(key) for key in QUANTISED_KEYS):
        return data
    where = f"{_MODELOPT} beside {source}"
    marks = decode_json(beside, where, "model file", ModelError)
    if not isinstance(marks, dict) or not isinstance(marks.get("quantization"), dict):
        raise ModelError(
            f"{where}: no quantization", value=marks, allowed='such as {"quantization": {"quant_algo": "FP8"}}'
        )
    return {**data, "quantization_config": {"quant_method": "modelopt", **marks["quantization"]}}
