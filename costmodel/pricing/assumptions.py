"""What an estimate rests on, with the sign of each error, and what a user should be warned of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from costmodel.decomposition.factors import FORMS, Decomposition, break_even_rank
from costmodel.decomposition.text import describe_layers
from costmodel.forward.workload import Attention, ExpertKernels, Latent, Runtime, Workload
from costmodel.hardware.profile import HardwareProfile
from costmodel.hardware.stack import names_bare_kernels
from costmodel.model import ModelSpec
from costmodel.units import KIB

if TYPE_CHECKING:
    from costmodel.pricing.pricer import PhasePricer


def assumptions(hardware: HardwareProfile, pricers: tuple[PhasePricer, ...]) -> tuple[str, ...]:
    """One sentence each, for the workloads that were priced; docs/assumptions.md has the reasons."""
    return tuple(dict.fromkeys(text for pricer in pricers for text in _of_one(hardware, pricer)))


def _of_one(hardware: HardwareProfile, pricer: PhasePricer) -> list[str]:
    model, work, times = pricer.model, pricer.work, pricer.time_model
    measured = times.level in ("probes", "samples")
    texts = []
    if measured:
        how = "as fitted to whole passes" if times.level == "samples" else "as measured alone"
        errors = "errors" if times.together == 1 else f"{times.together:.0%} of errors".replace("%", " %")
        texts.append(
            f"latency: the sum of operations {how} ({times.level}); the 90 % interval takes {errors} to go together "
            "(either way)"
        )
    elif times.level == "generation":
        texts.append(
            f"latency: {hardware.name} was not measured for {work.dtype.value}: what others of its generation "
            f"({hardware.architecture or f'any {hardware.kind}'}) reach of their peaks, or their times carried over; "
            "ranks that are no multiple of 16 by a prior (either way)"
        )
    else:
        texts.append(
            "latency: ideal roofline at datasheet peaks, no efficiency losses (too low; savings off either way)"
        )
    bare = names_bare_kernels(work.stack)
    if not bare and hardware.asynchronous:
        if times.host_launch_s:
            texts.append(
                f"stack {work.stack}: a pass takes at least {times.host_launch_s * 1e6:.3g} us of host time for each "
                "kernel that it launches (either way)"
            )
    elif work.runtime is Runtime.EAGER and (hardware.asynchronous or not measured):
        launch_s = times.host_launch_s or hardware.host_launch_s
        source = "verified" if _verified(hardware, "host_launch_s") else "unverified"
        source = "measured" if launch_s != hardware.host_launch_s else source
        launch = f"{launch_s * 1e6:g} us"
        texts.append(
            f"eager: a pass takes at least kernels x {launch} of host time ({source}, either way)"
            if hardware.asynchronous
            else f"eager: dispatch adds {launch} to each kernel ({source}, either way)"
        )
    if hardware.kind == "cpu":
        texts.append(
            "one socket with its own memory: a second one, and memory of another NUMA node, are not priced (too high "
            "where two sockets share the work, too low where weights lie on the other one)"
        )
    last = hardware.caches[-1] if hardware.caches else None
    if last and not measured and work.site_dtype.bytes_for(model.num_params) <= last.bytes:
        texts.append(
            f"weights that the {last.name.upper()} of {last.bytes / KIB**2:g} MiB could hold are read from memory "
            "(too high)"
        )
    if hardware.kernel_floor_s and times.level == "datasheet":
        texts.append(f"each kernel takes {hardware.kernel_floor_s * 1e6:g} us beyond its roofline time (either way)")
    if bare:
        texts.append(
            "kernels: those of the Hugging Face modules run by PyTorch, nothing fused but attention (too high)"
        )
    else:
        texts.append(
            f"stack {work.stack}: kernels of the Hugging Face modules x its factors by class of operation, fitted to "
            "published whole passes (either way)"
        )
    if not model.family.verified:
        texts.append(f"kernels and live bytes of {model.model_type}: from the topology, unverified (either way)")
    if work.attention is Attention.FUSED:
        grouped = " reads grouped K and V once and" if model.num_kv_heads < model.num_heads else ""
        masked = "never writes its scores" if model.is_encoder else "skips masked tiles"
        texts.append(f"attention: one fused kernel{grouped} {masked} (too low)")
    texts += model.notes
    if work.stored is not None:
        forms = [work.stored.text, *dict.fromkeys(tensor.form.text for tensor in model.tensors if tensor.form)]
        texts.append(
            f"weights {', others '.join(forms)}; dequantisation free, computed in {work.dtype.value} (either way)"
        )
    elif work.quantised:
        texts.append(f"weight-only {work.site_dtype.value}: fewer bytes, dequantisation free, uncalibrated (too low)")
    elif work.fp8:
        texts.append(
            "fp8: inputs are quantised as part of measured products, else at no cost (too low); other products and "
            "attention in 16 bits"
        )
    elif work.site_dtype is not work.dtype:
        texts.append(
            f"weights held in {work.site_dtype.value}, computed in {work.dtype.value}: conversion free, "
            "uncalibrated (too low)"
        )
    if work.kv_bytes != work.act_bytes:
        texts.append("KV cache in another type: its bytes alone change, conversion is free (too low)")
    if any(window is not None for window in model.sliding_windows):
        texts.append(
            "sliding-window layers keep and read no more than the window's keys, without a mask if fused (too low for "
            "caches that keep all, and for kernels that take a mask)"
        )
    texts += _blocks(model, work)
    if model.experts is not None and times.level not in ("datasheet", "samples"):
        texts += _expert_layers(pricer)
    if work.tp > 1:
        texts.append(
            f"{work.tp} devices: weights cut as Megatron-LM cuts them, collectives of one server, none hidden behind "
            "other work (too high where an engine overlaps them)"
        )
    if work.ep > 1:
        texts.append(
            f"{work.ep} x {work.tp} devices share out sequences and experts: every row goes to its expert's device and "
            "back in two all-to-alls, none hidden behind other work (too high where an engine overlaps them, or sends "
            "a token once to several experts)"
        )
    if work.pp > 1:
        texts.append(
            f"{work.pp} stages of as many layers as can be, the embeddings on the first and the head on the last; "
            "hosts launch one stage after the other (too high), positions and masks are made once (too low)"
        )
    cache = "" if model.is_encoder else f", {work.cache.value} KV cache"
    texts.append(f"memory: weights{cache} and live activations; no allocator slack or CUDA context (too low)")
    if hardware.idle_power_w is not None and hardware.peak_power_w is not None:
        late = "" if times.level != "datasheet" else "too low by the time that kernels take beyond the roofline, "
        texts.append(
            f"energy: peak power while busy, idle power else, from unmeasured figures ({late}too high if memory-bound)"
        )
    return texts


def _expert_layers(pricer: PhasePricer) -> list[str]:
    """How layers of experts are timed, where there is more to say than of other operations."""
    from costmodel.timing.experts import beyond, numbers_of

    numbers = numbers_of(pricer.time_model)
    if numbers is None:
        return ["layers of experts: each linear timed as one product of all its rows, unmeasured (either way)"]
    texts = [
        f"layers of experts: by a form fitted to {numbers.kernel} measured on {pricer.hardware.name}, 90 % of layers "
        f"within {math.exp(numbers.low):.2f} to {math.exp(numbers.high):.2f} of it; each factor of a stack as one more "
        "product of that kernel, which nobody measured (either way)"
    ]
    if outside := beyond(numbers, pricer.model, pricer.work):
        texts.append(
            f"layers of experts: not measured at {', '.join(outside)}, the interval twice as wide (either way)"
        )
    return texts


def _blocks(model: ModelSpec, work: Workload) -> list[str]:
    """What stands in layers in place of plain attention and of a plain MLP."""
    texts = []
    if model.experts is not None:
        fused = work.experts is ExpertKernels.FUSED
        kernels = "one kernel for a linear of all experts" if fused else "a loop over them"
        texts.append(
            f"experts: {work.routing.value} routing, the weights of the expected number of experts hit are read once, "
            f"gate and up as two products, {kernels} (either way)"
        )
    if model.latent is not None:
        texts.append(
            "latent attention: keys and values made from the whole cache in every pass; of a request's later steps "
            "dense, as if kv_b_proj were not factored (too high)"
            if work.latent is Latent.PLAIN
            else "latent attention: absorbed, kv_b_proj applied to queries and results (either way)"
        )
    if model.compressed is not None or any(kind.compressed for kind in model.kinds.values()):
        texts.append(
            "attention to compressed entries: the window and the chosen entries are read, the entries "
            "of a prompt made in one kernel (either way)"
        )
    if model.indexer is not None:
        texts.append(
            f"chosen blocks: of the cache a step reads {model.indexer.seen} positions, and the indexer's keys of all "
            "(either way)"
        )
    if model.recurrent is None:
        return texts
    from costmodel.blocks import DeltaNet, Lightning, StateSpace

    if isinstance(model.recurrent, DeltaNet | Lightning):
        chunk = model.recurrent.chunk if isinstance(model.recurrent, Lightning) else 64
        texts.append(f"linear attention: chunks of {chunk} positions in one kernel, the state in fp32 (either way)")
    if isinstance(model.recurrent, StateSpace):
        texts.append("state-space layers: the scan of a prompt in one kernel, the state in fp32 (either way)")
    return texts


def warnings_for(model: ModelSpec, decomposition: Decomposition, longest: int) -> tuple[str, ...]:
    """Ranks above break-even, and a sequence of `longest` tokens beyond the model's positions."""
    texts = []
    above = set(decomposition.above_break_even(model))
    if above:
        found = {
            (site.tensor, factor.to_json()["form"]) for site, factor in decomposition.factors.items() if site in above
        }
        limits = ", ".join(
            f"{tensor.name} {break_even_rank(tensor.out_features, tensor.in_features, form)} ({form})"
            for tensor in model.tensors
            for form in FORMS
            if (tensor.name, form) in found
        )
        layers = describe_layers({site.layer for site in above})
        texts.append(f"ranks above break-even cost more than dense in {layers}; break-even ranks: {limits}")
    if longest > model.max_positions:
        texts.append(f"{longest} tokens are beyond the {model.max_positions} positions that {model.name} was made for")
    return tuple(texts)


def _verified(hardware: HardwareProfile, name: str) -> bool:
    figure = hardware.figures.get(name)
    return figure is not None and figure.verified
