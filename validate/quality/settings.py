"""The settings of a quality run: what is asked for, with the words that the command line has for it."""

from __future__ import annotations

from dataclasses import dataclass

from validate.factors.kinds import HELP, Factors
from validate.store.settings import MAX_SEED, DeviceChoice, WeightChoice, option

NAME = "quality.json"
"""The file of a run's folder that keeps them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QualitySettings:
    """Options of `validate quality` that a resumed run takes over."""

    model: str | None = option(
        None,
        "Checkpoint: a folder with config.json, *.safetensors and a tokenizer, or a name on the Hugging Face hub.",
        metavar="PATH",
    )
    dense: str | None = option(
        None,
        "Of a factored folder: the dense checkpoint that it is compared with.  [default: the one beside it that it was "
        "made of]",
        metavar="DIR",
    )
    config: tuple[str, ...] = option((), "Configuration to measure; repeatable.", metavar="FILE")
    configs: str | None = option(
        None, "Configurations to measure: a list, or the JSON of `costmodel explore`.", metavar="FILE"
    )
    decompose: tuple[str, ...] = option(
        (),
        'Configuration to measure, such as "tensors=mlp rank=50%"; repeatable, each is one; " + " joins SPECs of one.',
        metavar="SPEC",
    )
    samples: int | None = option(
        None,
        "Measure a sample of the space of this size, the dense model included.",
        metavar="N",
        low=1,
        high=100_000,
    )
    seed: int = option(0, "Of the sample; a larger sample of a seed continues a smaller one.", low=0, high=MAX_SEED)
    text: str | None = option(None, "Text to predict, one that the model was not trained on.", metavar="FILE")
    blocks: int = option(64, "Blocks of the text, spread evenly over it.", low=2, high=1_000_000)
    length: int | None = option(
        None,
        "Tokens of a block.  [default: 256, or the most that the model takes]",
        metavar="L",
        low=2,
        high=1_000_000,
    )
    tasks: tuple[str, ...] = option(
        (),
        "Task: arc_easy, arc_challenge, hellaswag, mmlu, truthfulqa, winogrande, gsm8k, others of "
        "lm-evaluation-harness, on a local file of its data where one is named; or local items; repeatable.",
        metavar="NAME[=FILE[,EXAMPLES]]|FILE.jsonl",
    )
    limit: int | None = option(None, "Items of each task, the first ones.", metavar="N", low=1)
    shots: int | None = option(
        None,
        "Few-shot examples of each benchmark.  [default: lm-evaluation-harness's; 0 for a file without EXAMPLES]",
        metavar="N",
        low=0,
        high=1000,
    )
    factors: Factors = option("plain", HELP)
    calibration_text: str | None = option(None, "Text to fit factors to, not the one to predict.", metavar="FILE")
    calibration_blocks: int = option(64, "Blocks of the calibration text, of --length tokens.", low=1, high=1_000_000)
    device: DeviceChoice = option("auto", "auto takes CUDA where there is one.")
    dtype: WeightChoice = option("fp32", "Of the weights; narrower types change the numbers.")
    batch: int = option(8, "Blocks, and items, that run together.", low=1, high=65_536)
    threads: int | None = option(None, "Threads on a CPU.  [default: torch's]", low=1, high=4096)
