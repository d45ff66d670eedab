"""The state of a training under way, in safetensors: weights, optimiser and curve, written whole or not at all."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from validate.errors import RunError
from validate.store.tensors import load_tensors, save_tensors

NAME = "state.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One point of the curve.

    Attributes:
        step: steps done.
        tokens: seen so far.
        loss: mean of the training loss since the last point, nats per token.
        heldout: loss on a fixed part of the held-out text, nats per token.
        rate: factor on the learning rates.
        cpu_s: processor time of training so far, all threads together, without evaluation.
        wall_s: likewise by the clock, which counts pauses of the process too.
    """

    step: int
    tokens: int
    loss: float
    heldout: float
    rate: float
    cpu_s: float
    wall_s: float


@dataclass(slots=True, kw_only=True)
class State:
    """Where a training stands.

    Attributes:
        step: steps done.
        losses: of the steps since the last point.
        curve: points so far.
        cpu_s, wall_s: time spent in steps.
        step_s: of each step by the clock; their median stands for a step that nothing disturbed.
    """

    step: int
    losses: list[float]
    curve: list[Point]
    cpu_s: float
    wall_s: float
    step_s: list[float] = field(default_factory=list)


def save_state(
    folder: Path, key: str, state: State, weights: dict[str, torch.Tensor], optimizer: dict[str, torch.Tensor]
) -> None:
    """Write FOLDER/state.safetensors.

    Args:
        key: digest of what must be the same when it is read.

    Raises:
        RunError: when the disk is full or fails.
    """
    tensors = {f"model.{name}": tensor for name, tensor in weights.items()}
    tensors |= {f"optimizer.{name}": tensor for name, tensor in optimizer.items()}
    save_tensors(folder / NAME, tensors, {"key": key, "state": json.dumps(asdict(state))})


def require_key(folder: Path, key: str) -> None:
    """Refuse a state of another training without reading its tensors; none at all is fine.

    Raises:
        RunError: when the file is damaged or belongs to another recipe, text, device or version of torch.
    """
    path = folder / NAME
    if not path.exists():
        return
    try:
        with safe_open(path, framework="pt") as file:
            found = (file.metadata() or {}).get("key")
    except (OSError, SafetensorError) as error:
        raise _damaged(path, error) from error
    _require(found, key, path)


def load_state(folder: Path, key: str) -> tuple[State, dict[str, torch.Tensor], dict[str, torch.Tensor]] | None:
    """State, weights and optimiser as they were saved; None where nothing was.

    Raises:
        RunError: when the file is damaged or belongs to another recipe or text.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        tensors, metadata = load_tensors(path)
        found = json.loads(metadata.get("state", "null"))
        state = State(**{**found, "curve": [Point(**point) for point in found["curve"]]})
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise _damaged(path, error) from error
    _require(metadata.get("key"), key, path)
    weights = {name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model.")}
    return state, weights, {name[10:]: tensor for name, tensor in tensors.items() if name.startswith("optimizer.")}


def _require(found: str | None, key: str, path: Path) -> None:
    if found != key:
        hint = "choose another --out, or delete it to begin anew"
        raise RunError(f"{path} belongs to another recipe, text, device or version of torch", hint=hint)


def _damaged(path: Path, error: Exception) -> RunError:
    return RunError("cannot continue from state", value=str(path), hint=f"{error}; delete it to begin anew")
