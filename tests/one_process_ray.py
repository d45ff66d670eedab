"""A Ray of one process: actors run where the test does, and one of several awaited results is ready."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest


class DiedError(Exception):
    """What a worker that dies raises, and Ray then says of it."""


class KilledForMemoryError(DiedError):
    """Ray killed it for memory."""


@dataclass
class Call:
    """A method of an actor; calling `remote` gives what `get` runs."""

    run: Callable[..., Any]

    def remote(self, *given: Any) -> Callable[[], Any]:
        return lambda: self.run(*given)


class Actor:
    """An actor that runs where the test does."""

    def __init__(self, made: Any) -> None:
        self._made = made

    def __getattr__(self, name: str) -> Call:
        return Call(getattr(self._made, name))


@dataclass
class OneProcessRay:
    """What `Pool` calls of Ray. Of results that are awaited now one, now another is ready."""

    names: tuple[str, ...] = ("a", "b")
    exceptions: Any = field(
        default_factory=lambda: types.SimpleNamespace(
            RayTaskError=ZeroDivisionError, RayError=DiedError, OutOfMemoryError=KilledForMemoryError
        )
    )
    started: list[str] = field(default_factory=list)
    turns: int = 0

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": name, "NodeManagerAddress": name, "Alive": True, "Resources": {"CPU": 1.0}}
            for name in self.names
        ]

    def remote(self, kind: Any) -> Any:
        def make(*given: Any) -> Actor:
            self.started.append(given[2])
            return Actor(kind(*given))

        return types.SimpleNamespace(options=lambda **ignored: types.SimpleNamespace(remote=make))

    def wait(self, waiting: list[Any], **ignored: Any) -> tuple[list[Any], list[Any]]:
        self.turns += 1
        place = -1 - self.turns % len(waiting)
        return [waiting[place]], [each for each in waiting if each is not waiting[place]]

    def get(self, reference: Callable[[], Any]) -> Any:
        return reference()

    def kill(self, actor: Actor, **ignored: Any) -> None:
        pass


def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """The class that says on which node an actor starts, at its place in Ray's modules."""
    module = types.ModuleType("ray.util.scheduling_strategies")
    module.NodeAffinitySchedulingStrategy = lambda node, soft: node  # type: ignore[attr-defined]
    for name in ("ray", "ray.util"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
