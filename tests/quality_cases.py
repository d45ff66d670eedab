"""Tiny random checkpoints with tokenizers, texts and tasks for tests of measured quality; made in milliseconds."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
import transformers
from made_once import copied, made_once
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from validating import BERT, LLAMA

from costmodel.families.load import load_model, read_config
from validate.factors.replace import WeightFactors
from validate.models.blocks import Blocks, causal_blocks, masked_blocks
from validate.models.pretrained import Pretrained, open_pretrained
from validate.quality.case import QualityCase
from validate.quality.evaluator import Evaluator
from validate.quality.records import CheckpointRecord
from validate.quality.text import TextMeasure
from validate.store.digests import Source, checkpoint_sha256

WORDS = ["alpha", "beta", "gamma", "delta", "the", "of", "is", "not", "one", "two"]
TEXT = " ".join(random.Random(0).choices(WORDS, k=3000))
OTHER_TEXT = " ".join(random.Random(1).choices(WORDS, k=3000))


def tokenizer(masked: bool) -> Any:
    """Letters and spaces, with BERT's special tokens or none."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] if masked else ["<end>"]
    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet())[:90], "Ġ"]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys([*special, *letters]))}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=special[0]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    if not masked:
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=made, bos_token="<end>", eos_token="<end>", pad_token="<end>"
        )
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def checkpoint(
    folder: Path, config: dict[str, Any] = LLAMA, *, kind: str = "", scale: float = 8.0, **extra: Any
) -> Path:
    """A folder with config.json, model.safetensors and a tokenizer; weights larger than usual, so that ranks matter.

    Args:
        kind: `ForMaskedLM` and the like; by default of the family.
    """
    masked = config["model_type"] == "bert"
    kind = kind or ("ForMaskedLM" if masked else "ForCausalLM")
    settings = {**config, **extra}
    architecture = {"llama": "Llama", "bert": "Bert", "gpt2": "GPT2", "qwen3": "Qwen3", "mistral": "Mistral"}[
        config["model_type"]
    ]
    name = f"{architecture}{'LMHeadModel' if architecture == 'GPT2' else kind}"
    torch.manual_seed(0)

    def make(part: Path) -> None:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            model = getattr(transformers, name)(transformers.AutoConfig.for_model(**settings))
            for parameter in model.parameters():
                if parameter.dim() == 2:
                    parameter.mul_(scale / 2)
        model.save_pretrained(part)
        tokenizer(masked).save_pretrained(part)

    return copied(made_once(name, repr((name, settings, scale)), make), folder)


def items(count: int = 12, seed: int = 0) -> list[dict[str, Any]]:
    """Multiple-choice items of unlike lengths, some with a shared beginning."""
    rng = random.Random(seed)
    rows = []
    for index in range(count):
        context = " ".join(rng.choices(WORDS, k=3 + index % 4))
        choices = [" " + " ".join(rng.choices(WORDS, k=1 + place % 2)) for place in range(2 + index % 3)]
        rows.append({"context": context, "choices": choices, "answer": index % len(choices)})
    return rows


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def opened(folder: Path) -> Pretrained:
    """The checkpoint as `validate quality` opens it."""
    transformers.utils.logging.disable_progress_bar()
    pretrained = open_pretrained(str(folder))
    if not pretrained.spec.is_encoder:
        pretrained.model.config.use_cache = False
    return pretrained


def blocks(pretrained: Pretrained, count: int = 6, length: int = 32) -> Blocks:
    make = masked_blocks if pretrained.spec.is_encoder else causal_blocks
    return make(pretrained.tokenizer, TEXT, length, count)


def text_measure(pretrained: Pretrained, count: int = 6, **options: Any) -> TextMeasure:
    return TextMeasure(pretrained, blocks(pretrained, count), Source(name="text", sha256="0"), batch=4, **options)


def evaluator(pretrained: Pretrained, **options: Any) -> Evaluator:
    """With plain factors and the text, unless told otherwise."""
    folder = pretrained.folder
    model = CheckpointRecord(
        name="tiny",
        sha256=checkpoint_sha256(folder),
        config=dict(read_config(folder)),
        num_layers=load_model(folder).num_layers,
    )
    given: dict[str, Any] = {"text": text_measure(pretrained), **options}
    return Evaluator(pretrained, model, {"plain": WeightFactors()}, **given)


def case(pretrained: Pretrained, *specs: str) -> QualityCase:
    from costmodel.decomposition.text import parse_decomposition

    return QualityCase(decomposition=parse_decomposition(specs, pretrained.spec))


__all__ = [
    "BERT",
    "LLAMA",
    "OTHER_TEXT",
    "TEXT",
    "WORDS",
    "blocks",
    "case",
    "checkpoint",
    "evaluator",
    "items",
    "opened",
    "text_measure",
    "tokenizer",
    "write_lines",
]
