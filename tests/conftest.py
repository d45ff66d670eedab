"""Settings that every test runs under."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile

import hypothesis
import pytest

# Before torch and transformers are imported: no network, and one thread per worker, of which there is one per core.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

# Processes that tests start may keep what they compiled, or each would compile the project anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shell's background jobs ignore Ctrl-C and hand that down: the commands that tests interrupt would run on.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A search for cycles after so many new objects, not after 700: where torch is imported that takes a tenth of the time.
gc.set_threshold(10_000)

# No deadline: a shared machine is slow at times. In CI the same examples every time. `make test-slow` tries many more.
hypothesis.settings.register_profile("dev", deadline=None, max_examples=20)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=20, derandomize=True)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=300)
# Under mutmut: one failing example is enough, so no time goes into making it smaller.
hypothesis.settings.register_profile(
    "mutants",
    deadline=None,
    max_examples=20,
    derandomize=True,
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    suppress_health_check=list(hypothesis.HealthCheck),
)
profile = "mutants" if os.environ.get("MUTANT_UNDER_TEST") else "ci" if os.environ.get("CI") else "dev"
hypothesis.settings.load_profile(profile)

SHARED = "COSTMODEL_TESTS_SHARED"


def pytest_configure(config: pytest.Config) -> None:
    """A folder for what is made once for all workers, which inherit its name."""
    if not hasattr(config, "workerinput"):
        os.environ[SHARED] = tempfile.mkdtemp(prefix="costmodel-tests-")


def pytest_collection_finish() -> None:
    """What is imported by now stays: every search for cycles, of which pytest makes several at its end, skips it."""
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput") and SHARED in os.environ:
        shutil.rmtree(os.environ.pop(SHARED), ignore_errors=True)
