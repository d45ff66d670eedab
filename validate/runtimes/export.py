"""A decoder as one ONNX file: prefill and decode with a cache, of any batch and length."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import nn

from costmodel.decomposition.factors import Decomposition
from costmodel.errors import InputError
from costmodel.model import ModelSpec
from validate.errors import MeasurementError, reason_of
from validate.factors.replace import clone
from validate.hf.experts import FactoredExperts
from validate.hf.modules import FactoredLinear
from validate.runtimes.stacks import require_plain_cache

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def require_onnx() -> None:
    """Raise InputError unless the packages of the extra `onnx` are installed."""
    for name in PACKAGES:
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"the package {name} is not installed", hint="pip install -c constraints.txt '.[onnx]' in the checkout"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The shape of an exported decoder: of its inputs and outputs, and which positions each layer sees.

    Attributes:
        windows: of each layer that the model has, None where it sees all positions.
    """

    num_kv_heads: int
    head_dim: int
    windows: tuple[int | None, ...]

    @classmethod
    def of(cls, spec: ModelSpec, decomposition: Decomposition | None = None) -> Self:
        """The shape of a model, without the layers that the decomposition drops.

        Raises:
            InputError: when it is an encoder, or some layer holds something else than keys and values.
        """
        if spec.is_encoder:
            raise InputError("only decoders are exported", value=spec.name)
        require_plain_cache(spec)
        dropped = decomposition.dropped if decomposition else frozenset()
        windows = (window for layer, window in enumerate(spec.sliding_windows) if layer not in dropped)
        return cls(num_kv_heads=spec.num_kv_heads, head_dim=spec.head_dim, windows=tuple(windows))

    @property
    def num_layers(self) -> int:
        """Layers that hold keys and values."""
        return len(self.windows)


class CachedPass(nn.Module):
    """One pass of a decoder with the cache as tensors, as exported files have it.

    Inputs: tokens, int64 (batch, new), and for each layer its keys and values, (batch, kv heads, past, head_dim); past
    may be 0. Outputs: logits of the last position, (batch, 1, vocabulary), and keys and values of past + new positions.

    Args:
        model: a causal transformers model.
        windows: of its layers, as `Exported` has them.
    """

    def __init__(self, model: nn.Module, windows: Sequence[int | None]) -> None:
        super().__init__()
        self.model = model
        self.windows = list(windows)

    def forward(self, tokens: torch.Tensor, past: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """(batch, new) and 2 tensors a layer -> logits, and 2 tensors a layer."""
        cache = _GrowingCache(past)
        before, new = past[0].shape[2], tokens.shape[1]
        positions = torch.arange(before, before + new, device=tokens.device)
        held = torch.arange(before + new, device=tokens.device)
        seen = held[None, :] <= positions[:, None]
        masks = {"full_attention": _additive(seen, past[0].dtype)}
        if any(self.windows):
            window = next(window for window in self.windows if window)
            masks["sliding_attention"] = _additive(seen & (held[None, :] > positions[:, None] - window), past[0].dtype)
        kinds = set(getattr(self.model.config, "layer_types", None) or ["full_attention"])
        mask: Any = masks if len(kinds) > 1 else masks["sliding_attention" if all(self.windows) else "full_attention"]
        result = cast(Any, self.model)(
            input_ids=tokens,
            past_key_values=cache,
            position_ids=positions[None, :].expand(tokens.shape[0], -1),
            attention_mask=mask,
            use_cache=True,
            logits_to_keep=1,
        )
        return (result.logits, *cache.tensors)


def _exportable(model: nn.Module) -> nn.Module:
    """A tree that shares the model's tensors and has no module called `in`, which code made of a graph cannot say.

    Stacked experts come apart, so that a file reads the weights of those that rows are routed to: transformers' own
    ways read all of them, or copy a stack's weights for every row.
    """
    tree = clone(model)
    for path, module in list(tree.named_modules()):
        if getattr(module, "has_gate", None) is not None:
            parent, _, child = path.rpartition(".")
            setattr(tree.get_submodule(parent), child, FactoredExperts(module, {}))
    for module in tree.modules():
        if isinstance(module, FactoredLinear):
            module._modules = {f"factor_{place}": stage for place, stage in enumerate(module._modules.values())}
    return tree


def _additive(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(new, held) of booleans as (1, 1, new, held): 0 where a position is seen."""
    return torch.where(seen, 0.0, torch.finfo(dtype).min).to(dtype)[None, None]


class _GrowingCache:
    """The part of transformers' cache that its attention calls, over plain tensors."""

    is_compileable = False

    def __init__(self, past: Sequence[torch.Tensor]) -> None:
        self._past = past
        self.tensors: list[torch.Tensor] = []

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *args: Any, **options: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the new positions of a layer and return all of it."""
        found = tuple(torch.cat([old, new], dim=2) for old, new in zip(self._past[2 * layer :], (keys, values)))  # noqa: B905
        self.tensors += found
        return found  # type: ignore[return-value]

    def get_seq_length(self, layer: int = 0, *args: Any) -> int:
        """Positions before this pass."""
        return self._past[0].shape[2]

    def get_mask_sizes(self, *args: Any) -> tuple[int, int]:
        """Positions held after this pass, and the first of them."""
        return self._past[0].shape[2], 0


def names_of(layers: int) -> tuple[list[str], list[str]]:
    """Names of the inputs and of the outputs, as other exporters call them."""
    cache = [f"{layer}.{kind}" for layer in range(layers) for kind in ("key", "value")]
    return (
        ["input_ids", *(f"past_key_values.{name}" for name in cache)],
        ["logits", *(f"present.{name}" for name in cache)],
    )


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what the exporter logs of packages that nobody asked for."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def open_session(path: Path) -> Any:
    """ONNX Runtime over a file, on the CPU with as many threads as torch has, and silent but for errors.

    Threads do not spin between two passes, where those of two sessions would take each other's cores.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def export_onnx(model: nn.Module, shape: Exported, out: Path, fixed: tuple[int, int, int] | None = None) -> None:
    """Write a file; weights go into one beside it where they are beyond 2 GB.

    The exporter's own optimiser is left out: it takes as long as the rest, and ONNX Runtime does what it does.

    Args:
        model: causal, in evaluation mode, on the CPU.
        shape: of its inputs and outputs.
        fixed: batch, new and past positions of a file for these alone, which takes a third of the time; None for any.

    Raises:
        InputError: when the packages are not installed.
        MeasurementError: when torch cannot export it.
    """
    require_onnx()
    dtype = next(model.parameters()).dtype
    batch, new, held = fixed or (2, 3, 4)
    tokens = torch.ones((batch, new), dtype=torch.int64)
    size = (batch, shape.num_kv_heads, held, shape.head_dim)
    past = [torch.zeros(size, dtype=dtype) for _ in range(2 * shape.num_layers)]
    dims = [torch.export.Dim(name) for name in ("batch", "new", "past")]
    dynamic = ({0: dims[0], 1: dims[1]}, [{0: dims[0], 2: dims[2]}] * len(past))
    inputs, outputs = names_of(shape.num_layers)
    try:
        with warnings.catch_warnings(), _quietly(), torch.no_grad():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                CachedPass(_exportable(model), shape.windows).eval(),
                (tokens, past),
                input_names=inputs,
                output_names=outputs,
                dynamic_shapes=None if fixed else dynamic,
                dynamo=True,
                optimize=False,
                verbose=False,
            )
            program.save(str(out))
    except Exception as error:  # torch raises many kinds
        raise MeasurementError("export", reason_of(error)) from error
