"""`python -m costmodel`: the `costmodel` command."""

from __future__ import annotations

import gc

_OBJECTS = 100_000
"""New objects after which the command looks for cycles: by default it would search all that it imports, many times."""


def main() -> None:
    """Run the command; every expected failure is one line on stderr and exit code 2 (1 for a failed run)."""
    gc.set_threshold(_OBJECTS)
    from costmodel.cli import main as run  # click's classes alone make thousands of objects

    run()


if __name__ == "__main__":
    main()
