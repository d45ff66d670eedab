"""The way into a Ray cluster and out of it: quiet, without its dashboard, and without a word to anybody outside."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import socket
import threading
from typing import Any

from costmodel.errors import InputError
from validate.errors import RunError, reason_of

AUTO = "auto"
STORE_BYTES = 512 * 2**20
"""Of the store of objects that a cluster started for one run has; what is larger goes to disk."""
ANSWER_S = 5.0
"""Seconds in which a cluster's head must take a connection."""
_OF_ONE_RUN = "of_one_run"
"""Resource that marks such a cluster: Ray finds it on this machine, but it ends with its run, so no other run joins."""
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # statistics of use would go to its makers
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_NUM_REDIS_GET_RETRIES": "2",  # or an address where nothing listens takes minutes to be given up
    "RAY_py_gcs_connect_timeout_s": "5",
}


def require_ray(address: str | None) -> str | None:
    """The address, if it can be meant and Ray is installed; None for None.

    Raises:
        InputError: when not.
    """
    if address is None:
        return None
    if importlib.util.find_spec("ray") is None:
        hint = "install the extra: pip install -c constraints.txt '.[ray]' in the checkout"
        raise InputError("--ray needs Ray, which is not installed", value=address, hint=hint)
    host, colon, port = address.rpartition(":")
    if address != AUTO and not (host and colon and port.isdecimal() and "/" not in host):
        raise InputError("--ray", value=address, allowed="auto, or HOST:PORT of the cluster's head")
    return address


class Cluster:
    """A Ray cluster, joined when it is first asked for. A context manager, which leaves it.

    Args:
        address: HOST:PORT of the head; or auto: the cluster that this machine is a node of (or RAY_ADDRESS names),
            and where there is none, one on this machine alone that ends with this process.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._ray: Any = None

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *error: object) -> None:
        if self._ray is not None:
            self._ray.shutdown()
        self._ray = None

    @property
    def ray(self) -> Any:
        """The module `ray`, connected.

        Raises:
            InputError: when Ray is not installed.
            RunError: when there is no cluster at the address, or this machine is not a node of it.
        """
        if self._ray is None:
            require_ray(self.address)
            os.environ |= {name: os.environ.get(name, value) for name, value in _QUIET.items()}
            self._ray = _connected(self.address)
        return self._ray


def _connected(address: str) -> Any:
    named = os.environ.get("RAY_ADDRESS", AUTO) or AUTO
    if address == AUTO and named != "local":
        address = require_ray(named) or AUTO
    if address != AUTO:
        _require_listening(address)
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if named == "local" or not _joined(ray, address, quiet):
            from validate.devices.threads import usable_cores  # loads psutil, which reading commands do without

            ray.init(
                address="local",
                num_cpus=usable_cores(),
                include_dashboard=False,
                object_store_memory=STORE_BYTES,
                resources={_OF_ONE_RUN: 1},
                **quiet,
            )
    except Exception as error:  # where a node does not start in time, Ray raises that very class
        hint = f"{reason_of(error, 200)}; run `ray start --address=HOST:PORT` on this machine too"
        raise RunError("cannot join the Ray cluster", value=address, hint=hint) from error
    finally:
        if in_main and handler is not None:
            signal.signal(signal.SIGTERM, handler)  # Ray's own would end the process without a word on what is safe
    return ray


def _joined(ray: Any, address: str, quiet: dict[str, Any]) -> bool:
    """Join the cluster at the address; False where auto finds none, or one that another run started for itself."""
    try:
        ray.init(address=address, **quiet)
    except ConnectionError:
        if address != AUTO:
            raise
        return False
    if address == AUTO and _OF_ONE_RUN in ray.cluster_resources():
        ray.shutdown()
        return False
    return True


def _require_listening(address: str) -> None:
    """Raise where nothing takes connections: Ray itself tries for long, and writes on stderr that it does.

    Raises:
        RunError: when nothing does.
    """
    host, _, port = address.rpartition(":")
    reasons = []
    for name in (host, socket.gethostname()) if host in ("localhost", "127.0.0.1") else (host,):
        try:
            with socket.create_connection((name.strip("[]"), int(port)), timeout=ANSWER_S):
                return
        except (OSError, OverflowError) as error:
            reasons.append(reason_of(error, 200))
    hint = f"{reasons[0]}; run `ray start --head --port=PORT` on HOST"
    raise RunError("no Ray cluster listens there", value=address, hint=hint)
