"""At least one model of each kind of layer is built, factored, and found to be the one that was priced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from checkpoints import dense_folder, factored_folder, logits, of, random_tokens  # noqa: E402
from family_configs import small  # noqa: E402
from validating import predictor, workloads  # noqa: E402

from costmodel.decomposition.text import parse_decomposition  # noqa: E402
from costmodel.families.registry import spec_from_config  # noqa: E402
from costmodel.forward.workload import Attention  # noqa: E402
from validate.factors.replace import RandomFactors, Replacement, WeightFactors  # noqa: E402
from validate.models.build import build_model  # noqa: E402
from validate.models.pretrained import open_pretrained  # noqa: E402
from validate.speed.identity import identities, require_equal  # noqa: E402

KINDS = {
    "gemma3_text": "norms around both blocks, two windows",
    "olmo2": "norms behind the blocks, over q and k whole",
    "phi3": "q, k and v, gate and up packed",
    "gpt_neox": "parallel blocks, packed, two norms",
    "cohere": "parallel blocks, one norm",
    "gpt_bigcode": "learned positions, one key head",
    "distilbert": "an encoder without pooler",
    "electra": "narrow embeddings",
    "mpnet": "relative positions",
    "modernbert": "a first layer without a norm, packed gate",
    "nomic_bert": "a gated encoder",
    "xlm-roberta": "positions counted from the padding on",
    "esm": "an encoder with norms before its blocks",
}
SPECS = ["tensors=attn rank=3", "layers=1 tensors=mlp rank=5 form=tucker"]


@pytest.mark.parametrize("model_type", KINDS)
def test_it_is_built_and_factored_and_is_what_was_priced(model_type: str) -> None:
    config = small(model_type)
    spec = spec_from_config(config, name=model_type, source=json.dumps(config))
    decomposition = parse_decomposition(SPECS, spec)
    for work in workloads(spec, attention=Attention.UNFUSED):
        real = build_model(config, spec, dtype=work.dtype, device=torch.device("cpu"))
        Replacement(real, spec, decomposition, RandomFactors(0))
        require_equal(identities(real, spec, decomposition, work, predictor().counts(spec, decomposition, work)))


@pytest.mark.parametrize("model_type", ["gemma3_text", "phi3", "cohere"])
def test_its_factored_checkpoint_is_written_and_loaded(model_type: str, tmp_path: Path) -> None:
    from validate.hf import load_factored

    config: dict[str, Any] = {**small(model_type), "vocab_size": 128}
    dense = dense_folder(tmp_path / "dense", config)
    factored_folder(dense, tmp_path / "factored", SPECS)
    loaded, pretrained = load_factored(tmp_path / "factored"), open_pretrained(str(dense))
    with Replacement(pretrained.body, pretrained.spec, of(dense, SPECS), WeightFactors()):
        expected = logits(pretrained.model, random_tokens())
    assert torch.equal(logits(loaded, random_tokens()), expected)
