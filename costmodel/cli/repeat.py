"""The command line that repeats a part of the one being run."""

from __future__ import annotations

import shlex

import click


def repeated(ctx: click.Context, program: str, like: click.Command) -> str:
    """`program` with those options of the running command that `like` has too and that differ from their defaults."""
    shared = {option.name for option in like.params}
    words = [program]
    for option in ctx.command.params:
        value = ctx.params.get(option.name or "")
        if option.name in shared and value is not None and value not in (option.default, ()):
            text = ",".join(str(part) for group in value for part in group) if isinstance(value, tuple) else str(value)
            words += [option.opts[0], shlex.quote(text)]
    return " ".join(words)
