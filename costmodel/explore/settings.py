"""What is asked of a design space, as options name it: the same for the command and in Python."""

from __future__ import annotations

from dataclasses import dataclass, field

from costmodel.errors import InputError

MAX_TOP = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ExploreSettings:
    """What is asked; metadata is what `--help` says of each.

    Raises:
        InputError: when more of the best are asked for than are listed.
    """

    objectives: str | None = field(
        default=None,
        metadata={
            "metavar": "A,B,...",
            "help": "Names as `costmodel objectives` lists them: decode.latency_s, decode.saved.latency_p05_pct, "
            "params, quality; the first orders --top.",
        },
    )
    """None: latency of each phase, peak memory, parameters, and quality where one is named."""
    limits: tuple[str, ...] = field(
        default=(),
        metadata={
            "option": "--limit",
            "metavar": "'NAME OP NUMBER'",
            "help": "For example 'decode.latency_s<=20ms' or 'saved.latency_p05_pct>=20%'; repeatable. Without a "
            "phase it holds in every phase.",
        },
    )
    top: int = field(default=5, metadata={"metavar": "K", "help": "How many of the best to list."})
    quality: str | None = field(
        default=None,
        metadata={
            "metavar": "FILE|prior|standin:params|standin:energy:FILE",
            "help": "What each factored weight does to the answers, less is better; all but a FILE are no "
            "measurement.  [default: prior, in nats]",
        },
    )

    def __post_init__(self) -> None:
        if not 0 <= self.top <= MAX_TOP:
            raise InputError("--top out of range", value=self.top, allowed=f"0 to {MAX_TOP}")
