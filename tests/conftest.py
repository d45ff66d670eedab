"""Settings that every test runs under."""

from __future__ import annotations

import os
import signal

import hypothesis

# Before torch and transformers are imported: no network, and one thread per worker, of which there is one per core.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

# A shell's background jobs ignore Ctrl-C and hand that down: the commands that tests interrupt would run on.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: a shared machine is slow at times. In CI the same examples every time.
hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")
