"""Runs tests on mutants, each in a fork of one process that has everything imported and every test collected."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from mutants import Mutant

QUIET = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly"]
_TIMES, _SECONDS = 4.0, 5.0
"""Processor time that a mutant may take: so many times that of the tests without it, and seconds more."""
_WALL = 20
"""Seconds by the clock for each second of processor time, of what waits for ever."""
_MOST = 150
"""Tests of one function from which on whole files are named to pytest, which looks up each name apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """Which tests call which of the functions that mutants change, found in one run without a mutant.

    Attributes:
        tests: of a function, in the order of their files' and their own durations.
        seconds: of each test, processor time.
    """

    tests: dict[str, list[str]]
    seconds: dict[str, float]

    def limit_s(self, tests: Sequence[str]) -> int:
        return int(_TIMES * sum(self.seconds.get(test, 0.0) for test in tests) + _SECONDS) + 1


class _Watch:
    """A pytest plugin that notes which tests reach which code."""

    def __init__(self, wanted: dict[CodeType, str]) -> None:
        self.wanted, self.now = wanted, set[str]()
        self.tests: dict[str, set[str]] = defaultdict(set)
        self.files: dict[str, set[str]] = defaultdict(set)
        self.seconds: dict[str, float] = {}

    def _called(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code in self.wanted:
            self.now.add(self.wanted[frame.f_code])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.now, start = set(), time.process_time()
        sys.setprofile(self._called)
        try:
            return (yield)
        finally:
            sys.setprofile(None)
            self.seconds[item.nodeid] = time.process_time() - start
            for name in self.now:
                self.tests[name].add(item.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[None]:
        """What the fixture of a file, or of all, calls, every test of the file depends on."""
        before, self.now = self.now, set()
        try:
            return (yield)
        finally:
            if fixturedef.scope != "function":
                for name in self.now:
                    self.files[name].add(_file(request.node.nodeid))
            self.now |= before

    def covered(self) -> Covered:
        found = {}
        for name in {*self.tests, *self.files}:
            own = self.tests[name] | {test for test in self.seconds if {"", _file(test)} & self.files[name]}
            found[name] = self._fast_first(own)
        return Covered(tests=found, seconds=self.seconds)

    def _fast_first(self, tests: set[str]) -> list[str]:
        """File by file, so that what a file's tests share is made once."""
        whole: dict[str, float] = defaultdict(float)
        for test in tests:
            whole[_file(test)] += self.seconds[test]
        return sorted(tests, key=lambda test: (whole[_file(test)], _file(test), self.seconds[test]))


def _file(test: str) -> str:
    return test.partition("::")[0]


def collect(tests: Sequence[str]) -> None:
    """Import all that the tests import."""
    os.environ["MUTANT_UNDER_TEST"] = "by fork"  # tests/conftest.py: fewer examples
    with _silence():
        code = pytest.main([*QUIET, "--collect-only", *tests])
    if code:
        sys.exit(f"error: pytest cannot collect {' '.join(tests)}: exit code {code}")


def cover(tests: Sequence[str], mutants: Sequence[Mutant], kept: Path) -> Covered:
    """Run the tests with every function put in as it is; they have to pass. What they cover is kept in a file."""
    if kept.exists():
        found, seconds = json.loads(kept.read_text())
        return Covered(tests=found, seconds=seconds)
    with tempfile.TemporaryDirectory() as folder:
        said, output = Path(folder) / "covered.json", Path(folder) / "output"

        def watched() -> int:
            for mutant in mutants:
                mutant.install(plain=True)
            watch = _Watch({mutant.target.__code__: f"{mutant.module} {mutant.function}" for mutant in mutants})
            code = int(pytest.main([*QUIET, *tests], plugins=[watch]))
            found = watch.covered()
            said.write_text(json.dumps([found.tests, found.seconds]))
            return code

        if code := in_fork(watched, None, output):
            sys.exit(f"error: tests fail without a mutant, exit code {code}: {output.read_text()[-2000:]}")
        found, seconds = json.loads(said.read_text())
        kept.write_text(json.dumps([found, seconds]))
    return Covered(tests=found, seconds=seconds)


def verdict(mutant: Mutant, covered: Covered) -> str:
    """Killed, survived, timeout, or no tests."""
    tests = covered.tests.get(f"{mutant.module} {mutant.function}", [])
    if not tests:
        return "no tests"
    named = tests if len(tests) <= _MOST else list(dict.fromkeys(map(_file, tests)))

    def tested() -> int:
        mutant.install()
        return int(pytest.main([*QUIET, *named]))

    code = in_fork(tested, covered.limit_s(tests))
    if code < 0:
        return "timeout"
    return {0: "survived", 1: "killed"}.get(code, f"pytest {code}")


def in_fork(work: Callable[[], int], limit_s: int | None, output: Path | None = None) -> int:
    """The exit code of a function in a process of its own; below 0 where that ran out of processor time."""
    child = os.fork()
    if not child:
        code = 70
        try:
            if limit_s is not None:
                resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s + 1))
                signal.alarm(_WALL * limit_s)
            with _silence(output):
                code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextlib.contextmanager
def _silence(output: Path | None = None) -> Iterator[None]:
    """Standard output and error into a file, or nowhere."""
    sys.stdout.flush()
    kept = [os.dup(stream) for stream in (1, 2)]
    target = os.open(output or os.devnull, os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(target, stream)
    os.close(target)
    try:
        yield
    finally:
        sys.stdout.flush()
        for stream, own in zip((1, 2), kept, strict=True):
            os.dup2(own, stream)
            os.close(own)
