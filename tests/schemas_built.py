"""Documents that schemas are made from where a file must be written, or a run made up, first."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from costmodel.cli import cli, run

ROOT = Path(__file__).resolve().parent.parent
SHAPES = {
    "gemm": "m,n,k\n1,4096,4096\n128,512,4096\n",
    "attention": "batch_size,q_len,past_len,num_heads,num_key_value_heads,head_dim\n1,1,512,32,8,128\n",
    "experts": "num_tokens,hidden_size,moe_intermediate_size,num_experts_per_tok,num_experts,moe_tp_size,moe_ep_size,"
    "distribution\n8,2048,768,8,128,1,1,balanced\n",
    "collective": "collective,num_gpus,message_elements\nall_reduce,2,1048576\n",
}
"""Tables for `costmodel price`."""
POINTS = """model_config,dtype,batch,seq,phase,kind,measured,hw,stack,new_tokens,attention,lm_head,decompose
gpt2,fp16,2,100,prefill,time,3.5,a100-sxm-80gb,graph,0,fused,last,
gpt2,fp16,2,100,request,time,30,t4,graph,9,fused,last,
gpt2,fp16,2,100,prefill,memory,400,a100-sxm-80gb,graph,0,fused,last,
gpt2,fp16,2,100,prefill,ratio,0.9,a100-sxm-80gb,graph,0,fused,last,tensors=mlp rank=64
"""
"""Measurements for `validate points`."""
MEASURED = """layers,rank,benchmark,batch_size,param_reduction_pct,latency_s_per_batch,energy_j_per_batch_4gpu,\
memory_mib_per_gpu,power_w_4gpu,gpu_utilisation_pct
,0,short,64,0,0.60,1000,25000,1650,90
2 17,1,short,64,6.0043,0.56,940,24200,1650,90
2 8 14 20 26,1,short,64,15.0107,0.51,860,23000,1650,90
,0,long,64,0,1.20,2050,25000,1700,93
2 17,1,long,64,6.0043,1.13,1930,24200,1700,93
2 8 14 20 26,1,long,64,15.0107,1.02,1750,23000,1700,93
"""
"""A table for `validate replay`."""


def printed_by(group: Any, *words: str) -> Any:
    """The JSON that a command prints."""
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        assert run(group, [*words, "--format", "json"]) == 0, words
    return json.loads(stream.getvalue())


def prices(device: str = "h100-sxm-80gb") -> list[Any]:
    """What `costmodel price --format json` prints, of a table of each kind."""
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for name, text in SHAPES.items():
            file = Path(folder) / f"{name}.csv"
            file.write_text(text)
            found += [printed_by(cli, "price", str(file), "--hw", device)]
            if name == "gemm":
                found += [printed_by(cli, "price", str(file), "--hw", "t4", "--dtype", "fp16", "--calibration", "none")]
        return found


def points() -> list[Any]:
    """What `validate points --format json` prints."""
    from validate.cli import cli as measuring

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "points.csv"
        file.write_text(POINTS)
        return [printed_by(measuring, "points", str(file))]


def replays() -> list[Any]:
    """What `validate replay --format json` prints, with constants fitted and without."""
    return _replayed()[0]


def constants() -> list[Any]:
    """What `validate replay --save-constants` writes."""
    return _replayed()[1]


def _replayed() -> tuple[list[Any], list[Any]]:
    from validate.cli import cli as measuring

    with tempfile.TemporaryDirectory() as folder:
        file, saved = Path(folder) / "table.csv", Path(folder) / "constants.json"
        file.write_text(MEASURED)
        asked = ["replay", str(file), "--model", "llama2-7b", "--hw", "a100-sxm-80gb"]
        kept = ["--fit-on", "short", "--save-constants", str(saved)]
        found = [printed_by(measuring, *asked), printed_by(measuring, *asked, *kept)]
        return found, [json.loads(saved.read_text())]


def qualities() -> list[Any]:
    """What `validate quality --format json` prints of the records of the studies, texts and tasks."""
    from validate.cli.quality_report import finish
    from validate.quality.records import QUALITY

    found = []
    for name in ("llama/asked", "bert/asked", "smollm2/tasks"):
        folder = ROOT / "studies" / name
        with contextlib.redirect_stdout(io.StringIO()) as stream, contextlib.redirect_stderr(io.StringIO()):
            assert finish(folder, QUALITY.read(folder), fmt="json", measured=1, elapsed_s=1.5) == 0
        found.append(json.loads(stream.getvalue()))
    first = found[0]["configurations"][0]
    failure = {"stage": "text", "kind": "memory", "reason": "none left"}
    failed = {**first, "status": "failed", "failure": failure, "text": None, "artefact": "llama-factored"}
    return [*found, {**found[0], "configurations": [failed]}]


def sensitivities() -> list[Any]:
    """What `validate sensitivity --from FILE --format json` prints, without and with loss terms."""
    import numpy as np

    from costmodel.decomposition.factors import Site
    from costmodel.decomposition.sites import site_columns
    from costmodel.families.registry import spec_from_config
    from validate.cli import cli as measuring
    from validate.sensitivity.file import Sensitivity, SensitivityRun, save_sensitivity
    from validate.sensitivity.spectra import LossTerms, SiteSpectra

    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 16, **sizes}
    spec = spec_from_config(config, name="tiny", source="tiny")
    falling = np.arange(8, 0, -1, dtype=np.float64)
    terms = LossTerms(
        slope_plain=falling, slope_whitened=falling, curvature_plain=falling, curvature_whitened=falling, gradient=1.0
    )
    found = []
    for loss in (None, terms):
        spectra = SiteSpectra(singular_values=falling, plain_output=falling, whitened=falling, loss=loss)
        run_of = SensitivityRun(
            model="tiny",
            config=config,
            weights="0" * 64,
            text="0" * 64,
            blocks=2,
            length=8,
            dtype="fp32",
            device="cpu",
            gradients=loss is not None,
            nll=None if loss is None else 1.5,
            seed=0,
            whole="",
            versions={},
            seconds=1.5,
        )
        sites = {Site(*site): spectra for site in site_columns(spec)}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "tiny.sensitivity"
            save_sensitivity(file, Sensitivity(run=run_of, spec=spec, sites=sites))
            words = ["sensitivity", "--from", str(file)]
            quality = [] if loss is None else ["--as-quality", str(file.with_suffix(".json"))]
            found.append(printed_by(measuring, *words, *quality))
    return found


def manifests() -> list[Any]:
    """factored.json of `validate apply`: plain and fitted factors, in int8 too."""
    return [json.loads(each.to_bytes()) for each in _manifests()]


def applied() -> list[Any]:
    """What `validate apply --format json` prints."""
    from validate.checkpoint.write import Checkpoint
    from validate.cli.apply_report import print_written

    found = []
    for manifest in _manifests():
        written = Checkpoint(folder=Path("llama-factored"), manifest=manifest, bytes=3100, taken=0)
        with contextlib.redirect_stdout(io.StringIO()) as stream:
            print_written(written, 0, ["lm_head.extra"], 10**9, 1.5, "json")
        found.append(json.loads(stream.getvalue()))
    return found


def healed() -> list[Any]:
    """heal.json of `validate heal`."""
    from validate.heal.settings import HealSettings

    digests = {name: "0" * 64 for name in ("factored", "dense", "text", "judge_text")}
    return [_healing().record({**asdict(HealSettings(length=length)), **digests}) for length in (None, 32)]


def heals() -> list[Any]:
    """What `validate heal --format json` prints."""
    from validate.cli.heal import print_healed

    with contextlib.redirect_stdout(io.StringIO()) as stream:
        print_healed(Path("llama-healed"), 200, _healing(), "json")
    return [json.loads(stream.getvalue())]


def _healing() -> Any:
    from validate.heal.run import Healed
    from validate.interval import Interval

    nats = {"dense_nll": 3.5, "before_nll": 4.5, "after_nll": 4.25, "before_kl": 0.75, "after_kl": 0.5}
    return Healed(**nats, change=Interval(-0.25, -0.5, -0.125))


def fits() -> list[Any]:
    """What `validate fit --format json` prints, of the shipped calibrations: from probes, and from whole passes."""
    from validate.cli.fit import print_errors

    found = []
    for path in sorted((ROOT / "hw_profiles" / "calibrations").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        with contextlib.redirect_stdout(io.StringIO()) as stream:
            print_errors(path, content["errors"], content["hardware"], "json")
        found.append(json.loads(stream.getvalue()))
    return found


def predictors() -> list[Any]:
    """What `validate quality fit --format json` prints, of the quality files of the studies."""
    from validate.cli.quality_fit import summary_of

    files = sorted((ROOT / "studies").glob("*/*.quality.json"))
    return [summary_of(json.loads(path.read_text(encoding="utf-8")), path) for path in files]


def _manifests() -> list[Any]:
    from validate.checkpoint.manifest import FactorsRecord, FileRecord, Manifest, SiteRecord, SourceRecord

    file = FileRecord(name="factored.safetensors", bytes=2900, sha256="0" * 64)
    text = FileRecord(name="text.txt", bytes=100, sha256="0" * 64)
    ranks: Any = {"layer": 0, "rank": (4, 3), "relative_error": 0.125}
    sites = [
        SiteRecord(tensor="q_proj", module="self_attn.q_proj", form="tucker", **ranks),
        SiteRecord(tensor="up_proj", module="mlp.up_proj", form="svd", **{**ranks, "rank": (4, 4)}),
    ]
    made: Any = {
        "architecture": "LlamaForCausalLM",
        "layers": "model.layers",
        "num_layers": 3,
        "dtype": "bf16",
        "sites": sites,
        "drop": [1],
        "params": 1500,
        "dense_params": 2000,
        "source": SourceRecord(name="llama", dtype="bf16", files=[file]),
        "files": [file],
    }
    whitened = FactorsRecord(kind="whitened", calibration=text, blocks=64, length=256)
    int8: Any = {"weight_dtype": "int8", "int8": ["self_attn.q_proj.in"]}
    return [Manifest(**made, factors=FactorsRecord(kind="plain"), **int8), Manifest(**made, factors=whitened)]
