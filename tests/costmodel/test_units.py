"""Types by their size, and numbers for human eyes."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.errors import InputError, nearest, shorten
from costmodel.units import COMPUTE_DTYPES, KV_DTYPES, DType, parse_amount, seconds, si, significant


@pytest.mark.parametrize(
    ("name", "bits"),
    [("fp32", 32), ("tf32", 32), ("fp16", 16), ("bf16", 16), ("fp8", 8), ("int8", 8), ("int4", 4)],
)
def test_sizes(name: str, bits: int) -> None:
    dtype = DType(name)
    assert dtype.bits == bits
    assert dtype.bytes_for(8) == bits
    assert dtype.bytes_for(0) == 0


def test_half_bytes_round_up() -> None:
    assert [DType.INT4.bytes_for(count) for count in (1, 2, 3)] == [1, 1, 2]


def test_types_are_usable_as_keys_and_survive_a_copy() -> None:
    import copy
    import pickle

    assert {DType("bf16"): 1}[DType.BF16] == 1
    assert copy.deepcopy(DType.INT4) is DType.INT4
    assert pickle.loads(pickle.dumps(DType.TF32)) is DType.TF32
    assert len(set(DType)) == len(DType) == 7


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bf16", DType.BF16),
        ("BFloat16", DType.BF16),
        ("torch.float16", DType.FP16),
        ("half", DType.FP16),
        ("float32", DType.FP32),
        ("float", DType.FP32),
        ("int4", DType.INT4),
        ("float8", DType.FP8),
    ],
)
def test_parse(text: str, expected: DType) -> None:
    assert DType.parse(text) is expected


def test_parse_refuses_what_is_not_allowed_and_names_what_is() -> None:
    with pytest.raises(InputError, match="unknown dtype: got 'int8'; allowed: fp32, tf32, fp16, bf16"):
        DType.parse("int8", "dtype", COMPUTE_DTYPES)
    with pytest.raises(InputError, match="unknown KV cache dtype: got 'int4'"):
        DType.parse("int4", "KV cache dtype", KV_DTYPES)
    with pytest.raises(InputError, match="got ''"):
        DType.parse("")


@pytest.mark.parametrize(
    ("value", "digits", "pad", "expected"),
    [
        (0, 3, False, "0 B"),
        (0, 3, True, "0 B"),
        (1, 3, True, "1.00 B"),
        (999, 3, False, "999 B"),
        (999.6, 3, False, "1 kB"),
        (999_499, 3, False, "999 kB"),
        (999_500, 3, False, "1 MB"),
        (2.039e12, 3, False, "2.04 TB"),
        (13.8e9, 4, False, "13.8 GB"),
        (13.8e9, 4, True, "13.80 GB"),
        (99_996, 4, True, "100.0 kB"),
        (999_960, 4, True, "1.000 MB"),
        (1e15, 3, False, "1 PB"),
        (3e18, 3, False, "3 EB"),
        (3e21, 3, False, "3 ZB"),
        (3e24, 3, False, "3e+24 B"),
        (-2e6, 3, False, "-2 MB"),
        (0.5, 4, True, "0.5 B"),
    ],
)
def test_si(value: float, digits: int, pad: bool, expected: str) -> None:
    assert si(value, "B", digits, pad) == expected


@pytest.mark.parametrize(
    ("value", "pad", "expected"),
    [
        (0, False, "0 s"),
        (0.00642, False, "6.42 ms"),
        (0.0017, True, "1.700 ms"),
        (1e-5, False, "10 us"),
        (2.4e-6, False, "2.4 us"),
        (1e-9, False, "1 ns"),
        (2e-10, False, "0.2 ns"),
        (0.99996, True, "1.000 s"),
        (59.5, True, "59.50 s"),
        (12_345.6, True, "12,346 s"),
        (1e9, False, "1,000,000,000 s"),
    ],
)
def test_seconds(value: float, pad: bool, expected: str) -> None:
    assert seconds(value, pad=pad) == expected


_SCALE = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18, "Z": 1e21, "": 1.0}
_TIMES = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


@given(st.floats(1e-3, 1e23), st.integers(3, 6), st.booleans())
def test_si_reads_back_within_its_digits_and_never_in_powers_of_ten(value: float, digits: int, pad: bool) -> None:
    text = si(value, "B", digits, pad)
    match = re.fullmatch(r"([0-9.]+(?:e-0\d)?) ([kMGTPEZ]?)B", text)
    assert match, text
    assert float(match[1]) * _SCALE[match[2]] == pytest.approx(value, rel=0.5000001 * 10 ** (1 - digits))
    assert not match[1].endswith(".")
    assert 1 <= float(match[1]) < 1000 or value < 1


@given(st.floats(1e-9, 9000.0))
def test_seconds_read_back(value: float) -> None:
    number, unit = seconds(value, pad=True).split()
    assert float(number) * _TIMES[unit] == pytest.approx(value, rel=5.1e-4)
    assert sum(letter.isdigit() for letter in number) == 4


def test_significant_keeps_zeros_only_when_asked() -> None:
    assert (significant(1.5, 3), significant(1.5, 3, pad=True), significant(150, 3, pad=True)) == ("1.5", "1.50", "150")


def test_shorten_survives_anything() -> None:
    assert shorten("a" * 500).endswith("...")
    assert len(shorten("a" * 500)) == 120
    assert shorten(10**5000) == "a number of thousands of digits"
    assert shorten(math.inf) == "inf"


def test_nearest_prefers_what_begins_alike() -> None:
    known = ["a100-sxm-80gb", "a100-pcie-80gb", "a40", "h100-sxm-80gb"]
    assert nearest("a100", known) == "did you mean a100-pcie-80gb or a100-sxm-80gb or a40?"
    every = [f"x-{number}" for number in range(9)]  # all that begin alike, within reason
    assert nearest("x-", every[:6]).count(" or ") == 5
    assert nearest("x-", every).count(" or ") == 5
    assert nearest("h100-sxm-80g", known, count=1) == "did you mean h100-sxm-80gb?"
    assert nearest("zzz", known).startswith("known: a100-pcie-80gb, ")
    assert nearest("", known).startswith("known: ")


@pytest.mark.parametrize(
    ("unit", "text", "amount"),
    [
        ("B", "24gb", 24e9),
        ("B", "24GiB", 24 * 2**30),
        ("B", "24 gib", 24 * 2**30),
        ("B", "24 GB", 24e9),
        ("B", "24g", 24e9),
        ("%", "20 %", 20),
        ("s", "10 ms", 0.01),
        ("s", "10MS", 0.01),
        ("s", "5 min", 300),
        ("", "350m", 350e6),
        ("J", "5 KJ", 5e3),
        ("tok/s", "2 KTok/s", 2e3),
        ("nats", "0.05", 0.05),
        ("nats", "0.05 nats", 0.05),
        ("nats", "1nat", 1),
    ],
)
def test_an_amount_is_read_with_its_unit_in_either_case(unit: str, text: str, amount: float) -> None:
    assert parse_amount(text, unit) == pytest.approx(amount)


@pytest.mark.parametrize(
    ("unit", "text"),
    [("J", "5mj"), ("s", "24GB"), ("%", "20ms"), ("B", "1 2GB"), ("s", "ten"), ("B", "24Gb"), ("nats", "5%")],
)
def test_an_amount_that_means_two_things_or_another_is_refused(unit: str, text: str) -> None:
    with pytest.raises(InputError):
        parse_amount(text, unit)
