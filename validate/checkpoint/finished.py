"""Factors of an interrupted run, one file for each site, so that hours of factorising are not lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError

from costmodel.decomposition.factors import Site
from validate.checkpoint.manifest import SiteRecord
from validate.errors import RecordError
from validate.store.decode import decode_as
from validate.store.tensors import load_tensors, save_tensors


class FinishedFactors:
    """A folder of factors that were computed for one job.

    Args:
        folder: exists already.

    Attributes:
        taken: how many sites were found finished.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.taken = 0

    def get(self, site: Site, shapes: Sequence[tuple[int, ...]]) -> tuple[list[torch.Tensor], SiteRecord] | None:
        """The factors of a site and their record; None where they are not finished, damaged, or not of these shapes."""
        path = self._folder / f"{site}.safetensors"
        if not path.is_file():
            return None
        try:
            content, metadata = load_tensors(path)
            record = decode_as(metadata.get("record", ""), SiteRecord, str(path), "record", RecordError)
        except (SafetensorError, OSError, RecordError):
            return None
        tensors = [content[name] for name in sorted(content)]
        if [tuple(tensor.shape) for tensor in tensors] != list(shapes):
            return None
        self.taken += 1
        return tensors, record

    def put(self, site: Site, tensors: list[torch.Tensor], record: SiteRecord) -> None:
        """Keep the factors of a site. What a power failure spoils is factored again, so nothing waits for the disk.

        Raises:
            RunError: when the disk is full or fails.
        """
        path = self._folder / f"{site}.safetensors"
        content = {str(index): tensor for index, tensor in enumerate(tensors)}
        save_tensors(path, content, {"record": msgspec.json.encode(record).decode()})


def finished_count(folder: Path) -> int:
    """How many sites are finished in a folder, which need not exist."""
    return len(list(folder.glob("*.safetensors")))
