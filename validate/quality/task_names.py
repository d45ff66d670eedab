"""How tasks are named: benchmarks of lm-evaluation-harness, and local files. No torch."""

from __future__ import annotations

BENCHMARKS = {
    "arc_easy": ("arc", ["arc_easy"]),
    "arc_challenge": ("arc", ["arc_challenge"]),
    "hellaswag": ("hellaswag", ["hellaswag"]),
    "mmlu": ("mmlu/default", ["mmlu"]),
    "truthfulqa": ("truthfulqa", ["truthfulqa_mc1", "truthfulqa_mc2"]),
    "winogrande": ("winogrande", ["winogrande"]),
    "gsm8k": ("gsm8k", ["gsm8k"]),
}
"""The paper's six and GSM8K: the folder of lm-evaluation-harness that has them, and its tasks. TruthfulQA by its
multiple-choice variants, of which mc2 scores the probability of true answers rather than one choice."""


def is_file(task: str) -> bool:
    """Whether a task is a local file rather than a benchmark's name."""
    return task.endswith((".jsonl", ".json")) or "/" in task
