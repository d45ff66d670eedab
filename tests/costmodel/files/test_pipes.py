"""Pipes and devices in place of files: read and written as they are, and none is waited for that nobody is at."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from costmodel.errors import InputError
from costmodel.files.read import read_text
from costmodel.files.table import read_table
from costmodel.files.write import write_file

pytestmark = pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="pipes have no names")
CONTENT = b"m,n\n1,2\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The ends to read and to write; a test closes the one that it hands out."""
    ends = os.pipe()
    yield ends
    os.close(ends[0])


def test_what_is_written_to_a_pipe_is_read(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], CONTENT)
    os.close(pipe[1])
    assert list(read_table(Path(f"/dev/fd/{pipe[0]}"), InputError).columns) == ["m", "n"]


def test_a_writer_that_has_not_begun_is_waited_for(pipe: tuple[int, int]) -> None:
    writer = threading.Timer(0.05, lambda: (os.write(pipe[1], CONTENT), os.close(pipe[1])))
    writer.start()
    assert read_text(f"/dev/fd/{pipe[0]}", "note", InputError).encode() == CONTENT
    writer.join()


def test_a_pipe_is_read_no_further_than_a_file(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], CONTENT)
    os.close(pipe[1])
    with pytest.raises(InputError, match="too large for a note"):
        read_text(f"/dev/fd/{pipe[0]}", "note", InputError, limit=3)


def test_a_pipe_without_another_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"cannot read note.*nobody writes"):
        read_text(path, "note", InputError)
    with pytest.raises(InputError, match=r"cannot read as CSV.*nobody writes"):
        read_table(path, InputError)
    with pytest.raises(InputError, match="cannot write"):
        write_file(path, CONTENT)


def test_a_pipe_is_written_to_and_stays_one(pipe: tuple[int, int]) -> None:
    write_file(Path(f"/dev/fd/{pipe[1]}"), CONTENT)
    os.close(pipe[1])
    assert os.read(pipe[0], 99) == CONTENT


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device")
def test_a_device_without_an_end_is_no_table() -> None:
    with pytest.raises(InputError, match=r"cannot read as CSV.*letters"):
        read_table(Path("/dev/zero"), InputError)


def test_a_name_that_no_file_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write.*null byte"):
        write_file(tmp_path / "a\0b", CONTENT)
