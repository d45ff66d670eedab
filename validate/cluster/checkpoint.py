"""That a node has the checkpoint which the command has."""

from __future__ import annotations

from pathlib import Path

from validate.errors import RunError
from validate.store.digests import checkpoint_sha256


def require_checkpoint(folder: Path, sha256: str, node: str) -> None:
    """Raise unless the weights in a folder of this node are those that a run is about.

    Args:
        sha256: of the command's own.
        node: address of this one, which the message names.

    Raises:
        RunError: when there is no such folder, or it holds other weights.
    """
    if not folder.is_dir():
        hint = "the checkpoint must be at the same path on every node"
        raise RunError(f"node {node} has no such folder", value=str(folder), hint=hint)
    found = checkpoint_sha256(folder)
    if found != sha256:
        allowed = f"SHA-256 {sha256[:12]}..., as where the command runs"
        raise RunError(f"node {node} has other weights in {folder}", value=f"{found[:12]}...", allowed=allowed)
