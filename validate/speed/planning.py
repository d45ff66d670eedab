"""From the settings of a timing run to what is measured: model, weights, workloads, cases."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from costmodel.decomposition.factors import load_decomposition
from costmodel.errors import InputError
from costmodel.families.load import load_model, read_config
from costmodel.forward.workload import Attention, Phase, Runtime
from costmodel.model import ModelSpec
from costmodel.units import DType
from validate.devices.facts import KnownDevice
from validate.models.kept import is_factored
from validate.plans.case import Case
from validate.plans.configs_file import load_configs
from validate.plans.sampling import WorkloadChoice, given_cases, sample_cases
from validate.runtimes.stacks import COMPILE, ONNX, experts_of, stack_options
from validate.speed.settings import MeasureSettings

CONFIGURATION = "decomposition.json"
"""The file of a factored folder that says which it is."""
_CPU = {"batch": (1, 2, 4, 8), "seq_len": (16, 32, 64, 128), "kv_len": (64, 128, 256, 512), "max_tokens": 256}
_CUDA = {
    "batch": (1, 4, 16, 64),
    "seq_len": (128, 512, 1024, 2048),
    "kv_len": (128, 512, 1024, 2048),
    "max_tokens": 8192,
}
"""Levels that samples are drawn from, small enough for a pass to take well under a second."""


def model_of(settings: MeasureSettings, given: Collection[str] = ("seq_len", "kv_len")) -> ModelSpec:
    """The structure of the model.

    Args:
        given: names of settings that the user gave now; a run that is resumed may have others that say nothing.

    Raises:
        CostModelError: when it cannot be read, has no pass of the phase, or a length that is asked for is beyond its
            positions or of a phase that is not measured.
    """
    spec = load_model(settings.model, num_layers=settings.num_layers, bare=True)
    if spec.is_encoder and settings.phase == "decode":
        raise InputError(f"{spec.name} is an encoder and has no decode phase", value="decode", allowed="prefill")
    prefill_only = spec.is_encoder or settings.phase == "prefill"
    lengths = (("--seq-len", settings.seq_len, settings.phase == "decode"), ("--kv-len", settings.kv_len, prefill_only))
    for name, values, unused in lengths:
        if values and unused and name[2:].replace("-", "_") in given:
            raise InputError(f"{name} says nothing about what is measured", value=values[0], hint="leave it out")
        if values and not unused and max(values) > spec.max_positions:
            raise InputError(f"{name} is beyond the model", value=max(values), allowed=f"up to {spec.max_positions}")
    return spec


def weights_of(settings: MeasureSettings) -> Path | None:
    """The folder that weights are read from, None for random ones."""
    folder = Path(settings.model)
    has = settings.weights == "auto" and folder.is_dir() and any(folder.glob("*.safetensors"))
    return folder if has and not is_factored(folder) else None


def artefact_of(settings: MeasureSettings) -> Path | None:
    """The folder of `validate apply` that is to be timed beside its dense model, None for anything else.

    Raises:
        InputError: when other configurations are asked for, or its weights are in int8.
    """
    folder = Path(settings.model)
    if not folder.is_dir() or not is_factored(folder):
        return None
    if settings.configs is not None or settings.num_layers is not None:
        hint = "a factored checkpoint is timed as it is; give configurations and layers of the dense one"
        raise InputError("a factored checkpoint with --configs or --num-layers", value=settings.model, hint=hint)
    entry = read_config(folder).get("quantization_config")
    if isinstance(entry, Mapping) and entry.get("weight_dtype"):
        raise InputError("weights in int8 are not timed", value=settings.model, allowed="factors in a float type")
    return folder


def dtype_of(option: str, kind: str) -> DType:
    """The type to compute in; `auto` depends on the kind of device."""
    return DType(option) if option != "auto" else DType.FP32 if kind == "cpu" else DType.BF16


def workloads(settings: MeasureSettings, spec: ModelSpec, device: KnownDevice, dtype: DType) -> WorkloadChoice:
    """The levels to draw workloads from: those asked for, else those that suit the device."""
    kind = device.kind
    levels: dict[str, Any] = _CPU if kind == "cpu" else _CUDA
    both = (Phase.PREFILL,) if spec.is_encoder else (Phase.PREFILL, Phase.DECODE)
    phases = both if settings.phase == "both" else (Phase(settings.phase),)
    routed = spec.experts is not None
    runtime = {"auto": "eager" if kind == "cpu" or routed else "both"}.get(settings.runtime, settings.runtime)
    if routed and runtime not in ("eager", ONNX) and (runtime, kind) != (COMPILE, "cpu"):
        hint = "the host reads where factored experts' rows are routed to, which no CUDA graph holds"
        raise InputError(
            f"--runtime {runtime} with experts",
            value=spec.name,
            allowed="eager, and on a CPU compile and onnx",
            hint=hint,
        )
    own: dict[str, Any] = {"dtype": dtype, "attention": Attention(settings.attention)}
    own |= {"experts": experts_of(runtime)} if routed else {}
    options: tuple[dict[str, Any], ...]
    if runtime in (COMPILE, ONNX):
        options = ({**own, **stack_options(runtime, kind, dtype, spec)},)
    else:
        runtimes = ("eager", "graph") if runtime == "both" else (runtime,)
        options = tuple({**own, "runtime": Runtime(each)} for each in runtimes)
    given_lengths = bool(settings.seq_len)
    # given configurations run under one workload each unless asked for more
    few = settings.configs is not None or artefact_of(settings) is not None
    return WorkloadChoice(
        phases=phases,
        batches=tuple(settings.batch or (levels["batch"][:1] if few else levels["batch"])),
        seq_lens=tuple(settings.seq_len or (levels["seq_len"][2:3] if few else levels["seq_len"])),
        kv_lens=tuple(settings.kv_len or (levels["kv_len"][1:2] if few else levels["kv_len"])),
        max_tokens=2**40 if given_lengths else levels["max_tokens"],
        max_cached=2**40 if settings.kv_len else _cached_tokens(spec, device.memory_bytes, dtype),
        options=options,
    )


def _cached_tokens(spec: ModelSpec, memory_bytes: int, dtype: DType) -> int:
    """Tokens whose keys and values fit twice, for candidate and reference, beside up to two models."""
    room = 0.8 * memory_bytes - 2.2 * dtype.bytes_for(spec.num_params)
    return max(1, int(room / 2 / dtype.bytes_for(spec.num_layers * (spec.kv_size + spec.value_size))))


def cases(settings: MeasureSettings, spec: ModelSpec, choice: WorkloadChoice) -> list[Case]:
    """The configurations under their workloads: given ones, or a sample of the space.

    Raises:
        DecompositionError: when a given one cannot be read or does not fit `spec`.
    """
    if (folder := artefact_of(settings)) is not None:
        return given_cases(spec, [load_decomposition(folder / CONFIGURATION, spec)], choice)
    if settings.configs is not None:
        return given_cases(spec, load_configs(settings.configs, spec), choice)
    return sample_cases(spec, settings.samples, settings.seed, choice)


def adaptations(
    settings: MeasureSettings, spec: ModelSpec, choice: WorkloadChoice, planned: Sequence[Case]
) -> list[str]:
    """What the plan has otherwise than the defaults say, a line each: shorter passes, fewer samples."""
    lines = []
    for phase in choice.phases:
        prompts = phase is Phase.PREFILL
        levels, word = (choice.seq_lens, "prompts") if prompts else (choice.kv_lens, "decode steps' lengths")
        most = choice.max_tokens if prompts else 2**40
        drawn = {
            (min(level, most // batch), choice.draw(phase, batch, place, choice.options[0], spec).kv_len)
            for place, level in enumerate(levels)
            for batch in choice.batches
        }
        if shorter := sorted({length for level, length in drawn if length < level}):
            why = f"{spec.name} has {spec.max_positions} positions"
            why += "" if prompts else ", and its cache must fit the memory"
            lines.append(f"{word} are shortened to {', '.join(map(str, shorter))} tokens: {why}")
    given = settings.configs is not None or artefact_of(settings) is not None
    if not given and len(planned) < settings.samples:
        lines.append(f"{len(planned)} samples instead of {settings.samples}: there are no more distinct ones")
    return lines
