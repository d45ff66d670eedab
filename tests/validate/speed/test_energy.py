"""Energy of a pass on a made-up counter: each model's own joules, without those of warming up."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from validating import FakeGpu

from validate.speed.energy import measure_energy


class Meter(FakeGpu):
    """A counter that rises by what each pass takes, and stops answering after some readings."""

    def __init__(self, readings: float = float("inf")) -> None:
        super().__init__()
        self.order = ""
        self._left = readings

    def pass_of(self, name: str, joules: float) -> None:
        """One pass."""
        self.order += name
        self.joules += joules

    def energy_j(self) -> float | None:
        self._left -= 1
        return self.joules if self._left >= 0 else None


def test_each_model_has_the_joules_of_its_own_passes() -> None:
    meter = Meter()
    found = measure_energy(meter, lambda: meter.pass_of("c", 3.0), lambda: meter.pass_of("d", 5.0), window_s=0.001)
    assert found is not None
    assert (found.candidate_j, found.dense_j) == pytest.approx((3.0, 5.0))
    assert found.window_s == 0.001
    assert set(meter.order) == {"c", "d"}
    assert "dc" not in meter.order  # a window of its own each


def test_warming_up_is_not_counted() -> None:
    """The first two passes take ten times as much."""
    meter = Meter()
    found = measure_energy(
        meter,
        lambda: meter.pass_of("c", 3.0 if meter.order.count("c") > 1 else 30.0),
        lambda: meter.pass_of("d", 5.0 if meter.order.count("d") > 1 else 50.0),
        window_s=0.001,
    )
    assert found is not None
    assert (found.candidate_j, found.dense_j) == pytest.approx((3.0, 5.0))


def test_without_a_counter_there_is_none() -> None:
    meter = Meter(readings=0)
    assert measure_energy(meter, lambda: meter.pass_of("c", 3.0), lambda: meter.pass_of("d", 5.0)) is None
    assert meter.order == ""


def test_a_counter_that_stops_is_an_error() -> None:
    meter = Meter(readings=2)
    with pytest.raises(RuntimeError, match="stopped answering"):
        measure_energy(meter, lambda: meter.pass_of("c", 3.0), lambda: meter.pass_of("d", 5.0), window_s=0.001)
