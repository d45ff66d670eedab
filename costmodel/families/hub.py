"""The config.json of a model by its name on the Hugging Face hub: from the local cache, else fetched."""

from __future__ import annotations

import os
import re
from pathlib import Path

from costmodel.errors import ModelError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_FILE = "config.json"


def is_hub_name(text: str) -> bool:
    """Whether `text` has the form owner/name, and is not the path of a configuration."""
    return _NAME.fullmatch(text) is not None and not text.lower().endswith(".json")


def hub_config(name: str) -> Path:
    """The file of `owner/name`, fetched where it is not in the cache.

    Raises:
        ModelError: in one line that says how to get the file, when it is not in the cache and cannot be fetched.
    """
    return _cached(name) or _fetched(name)


def cache_folder() -> Path:
    """Where the hub's library keeps what it fetched, by its own environment variables."""
    if "HF_HUB_CACHE" in os.environ:
        return Path(os.environ["HF_HUB_CACHE"]).expanduser()
    if "HF_HOME" in os.environ:
        return Path(os.environ["HF_HOME"]).expanduser() / "hub"
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "huggingface" / "hub"


def _cached(name: str) -> Path | None:
    """The file of the revision `main`, else of the one fetched last."""
    repository = cache_folder() / f"models--{name.replace('/', '--')}"
    snapshots = repository / "snapshots"
    try:
        revisions = [(repository / "refs" / "main").read_text(encoding="utf-8").strip()]
    except (OSError, ValueError):
        revisions = []
    try:
        others = sorted(snapshots.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    except OSError:
        others = []
    for path in (*(snapshots / revision for revision in revisions), *others):
        if (path / _FILE).is_file():
            return path / _FILE
    return None


def _fetched(name: str) -> Path:
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    unreachable = "model not in the local cache, and the hub cannot be reached"
    by_hand = f"save {endpoint}/{name}/resolve/main/{_FILE} and give its path"
    import logging

    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import GatedRepoError, RemoteEntryNotFoundError, RepositoryNotFoundError
        from huggingface_hub.utils.logging import get_verbosity, set_verbosity
    except ImportError as error:
        hint = f"pip install -c constraints.txt '.[hub]' in the checkout, or {by_hand}"
        raise ModelError("model not in the local cache", value=name, hint=hint) from error
    if not _resolves(endpoint):
        raise ModelError(unreachable, value=name, hint=by_hand)
    verbosity = get_verbosity()
    set_verbosity(logging.ERROR)  # its retries are no lines of ours
    try:
        return Path(hf_hub_download(name, _FILE, cache_dir=cache_folder(), endpoint=endpoint))
    except GatedRepoError as error:
        hint = f"accept its terms on the hub and log in with `hf auth login`, or {by_hand}"
        raise ModelError("the hub shows this model to those only who may see it", value=name, hint=hint) from error
    except RepositoryNotFoundError as error:
        raise ModelError("the hub has no such model", value=name, allowed="owner/name of a public model") from error
    except RemoteEntryNotFoundError as error:
        raise ModelError(f"the model on the hub has no {_FILE}", value=name) from error
    except (OSError, ValueError) as error:  # no network, offline mode, a server that fails
        raise ModelError(unreachable, value=name, hint=by_hand) from error
    finally:
        set_verbosity(verbosity)


def _resolves(endpoint: str) -> bool:
    """Whether the hub's name can be looked up, or a proxy does that: the hub's library retries for half a minute."""
    import socket
    from urllib.parse import urlsplit
    from urllib.request import getproxies

    if getproxies():
        return True
    try:
        return bool(socket.getaddrinfo(urlsplit(endpoint).hostname, None))
    except OSError:
        return False
