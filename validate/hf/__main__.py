"""`python -m validate.hf MODULE ARGUMENTS...`: another program with the quantizer registered, such as lm_eval."""

from __future__ import annotations

import argparse
import runpy
import sys


def main() -> None:
    """Run a module as `python -m MODULE ARGUMENTS...` would."""
    parser = argparse.ArgumentParser(prog="python -m validate.hf", add_help=False)
    parser.add_argument("module", help="as `python -m` takes it, such as lm_eval")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the module")
    given = parser.parse_args()
    sys.argv = [given.module, *given.arguments]
    runpy.run_module(given.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
