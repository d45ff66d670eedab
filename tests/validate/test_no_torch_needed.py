"""What reads, fits and shows starts without torch: on machines that measure nothing, and in a blink."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "transformers", "tensorly", "lm_eval", "sklearn")
MODULES = (
    "validate.calibration.fit",  # torch for the training of a network alone, scikit-learn for a process
    "studies.calibrations.device_fit",
    "studies.calibrations.few_points",
    "studies.calibrations.transfer",
    "validate.calibration.folder",
    "validate.calibration.importers",
    "validate.calibration.whole.run_folder",
    "validate.probes.plan",
    "validate.speed.records",
    "validate.speed.metrics",
    "validate.speed.report",
    "validate.speed.predictions",
    "validate.store.journal",
    "validate.store.settings",
    "validate.plans.sampling",
    "validate.plans.case",
    "validate.plans.configs_file",
    "validate.devices.nvml",
    "validate.devices.conditions",
    *(f"validate.cli.{name}" for name in ("report", "measure", "quality", "quality_report", "sensitivity")),
    *(f"validate.quality.{name}" for name in ("plan", "summary", "intervals", "records", "case", "job", "given")),
    *(f"validate.quality.{name}" for name in ("items", "answers", "task_names")),
    *(f"validate.sensitivity.{name}" for name in ("file", "quality_file", "table")),
)
CODE = f"""
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    heavy = {HEAVY} & {{loaded.partition(".")[0] for loaded in sys.modules}}
    assert not heavy, f"{{name}} loads {{heavy}}"
""".replace(str(HEAVY), str(set(HEAVY)))


def test_nothing_heavy_is_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", CODE, *MODULES], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
