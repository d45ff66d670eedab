"""Hardware profiles: the shipped figures against a second transcription, and every way a file can be malformed."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from costmodel.errors import HardwareError
from costmodel.hardware import profile as hardware
from costmodel.hardware.file import PARTS
from costmodel.hardware.profile import builtin_hardware, load_hardware
from costmodel.units import DType

ROOT = Path(__file__).resolve().parents[3]
FOLDER = hardware.profile_folder()

# Dense rates in TFLOP/s (TOP/s), then memory GB, GB/s, last-level cache MiB, SMs, TDP W; None where there is none.
# fmt: off
GPUS = {
    #                 bf16    fp16    tf32   fp32   fp8     int8    GB   GB/s  MiB  SMs  W
    "a100-sxm-40gb":  (312,    312,    156,   19.5,  None,   624,    40,  1555, 40,  108, 400),
    "a100-sxm-80gb":  (312,    312,    156,   19.5,  None,   624,    80,  2039, 40,  108, 400),
    "a100-pcie-40gb": (312,    312,    156,   19.5,  None,   624,    40,  1555, 40,  108, 250),
    "a100-pcie-80gb": (312,    312,    156,   19.5,  None,   624,    80,  1935, 40,  108, 300),
    "h100-sxm-80gb":  (989.4,  989.4,  494.7, 66.9,  1978.9, 1978.9, 80,  3350, 50,  132, 700),
    "h100-pcie-80gb": (756,    756,    378,   51,    1513,   1513,   80,  2000, 50,  114, 350),
    "h200-sxm":       (989.4,  989.4,  494.7, 66.9,  1978.9, 1978.9, 141, 4800, 50,  132, 700),
    "l4":             (121,    121,    60,    30.3,  242,    242,    24,  300,  48,  58,  72),
    "l40s":           (362,    362,    183,   91.6,  733,    733,    48,  864,  96,  142, 350),
    "a40":            (149.7,  149.7,  74.8,  37.4,  None,   299.3,  48,  696,  6,   84,  300),
    "t4":             (None,   65,     None,  8.1,   None,   130,    16,  320,  4,   40,  70),
    "v100-sxm2-16gb": (None,   125,    None,  15.7,  None,   62,     16,  900,  6,   80,  300),
    "v100-sxm2-32gb": (None,   125,    None,  15.7,  None,   62,     32,  900,  6,   80,  300),
    "rtx-4090":       (165.2,  165.2,  82.6,  82.6,  330,    660.6,  24,  1008, 72,  128, 450),
    "b200-sxm":       (2250,   2250,   1125,  75,    4500,   4500,   180, 8000, 126.5, 148, 1000),
    "rtx-5090":       (209.5,  209.5,  104.8, 104.8, 419,    838,    32,  1792, 96,  170, 575),
    "rtx-pro-6000":   (500,    500,    250,   125,   1000,   1000,   96,  1792, 128, 188, 600),
    "h20":            (148,    148,    74,    44,    296,    296,    96,  4000, 60,  78,  400),
    "rtx-3090":       (71.2,   71.2,   35.6,  35.6,  None,   284.8,  24,  936,  6,   82,  350),
    "l40":            (181,    181,    90.5,  90.5,  362,    362,    48,  864,  96,  142, 300),
    "a10":            (125,    125,    62.5,  31.2,  None,   250,    24,  600,  6,   72,  150),
    "mi300x":         (1307.4, 1307.4, 653.7, 163.4, 2614.9, 2614.9, 192, 5300, 256, 304, 750),
}
# name: cores, base GHz, FP32 FLOP/cycle, FP32 TFLOP/s as rounded in print, GB/s, last-level cache MiB, TDP W
CPUS = {
    "xeon-8480plus": (56, 2.0,  64, 7.2, 307.2, 105, 350),
    "epyc-9654":     (96, 2.4,  32, 7.4, 460.8, 384, 360),
    "epyc-7763":     (64, 2.45, 32, 5.0, 204.8, 256, 280),
}
MEASURED = {"amd-epyc-2t"}
"""Written by `validate` from the machine itself; no datasheet to hold them against."""
# The rates that datasheets print with sparsity, in TFLOP/s: the dense rate is at most half.
SPARSE_BF16 = {
    "a100-sxm-80gb": 624, "h100-sxm-80gb": 1979, "h100-pcie-80gb": 1513, "h200-sxm": 1979, "l4": 242, "l40s": 733,
    "a40": 299.4, "rtx-4090": 330.4, "mi300x": 2614.9, "b200-sxm": 4500, "rtx-5090": 419, "rtx-pro-6000": 1008,
    "h20": 296, "rtx-3090": 142.5, "l40": 362.1, "a10": 250,
}
# fmt: on


def test_every_profile_is_in_the_golden_tables() -> None:
    assert set(builtin_hardware()) == {*GPUS, *CPUS, *MEASURED}


@pytest.mark.parametrize("name", GPUS)
def test_gpu_figures(name: str) -> None:
    bf16, fp16, tf32, fp32, fp8, int8, memory, bandwidth, cache, cores, power = GPUS[name]
    profile = load_hardware(name)
    rates = {"fp32": fp32, "tf32": tf32, "fp16": fp16, "bf16": bf16, "fp8": fp8, "int8": int8}
    assert {d.value: rate / 1e12 for d, rate in profile.matrix_flops_per_s.items()} == pytest.approx(
        {dtype: rate for dtype, rate in rates.items() if rate is not None}, rel=1e-12
    )
    assert profile.vector_flops_per_s == pytest.approx(fp32 * 1e12, rel=1e-12)
    assert profile.memory_bytes == memory * 10**9  # decimal: an exact int, never GiB
    assert profile.memory_bytes_per_s == bandwidth * 1e9
    assert profile.caches[-1].bytes == cache * 2**20
    assert (profile.cores, profile.peak_power_w) == (cores, power)
    assert (profile.kind, profile.asynchronous) == ("gpu", True)


@pytest.mark.parametrize("name", CPUS)
def test_cpu_figures_follow_from_cores_clock_and_width(name: str) -> None:
    cores, ghz, width, printed, bandwidth, cache, power = CPUS[name]
    profile = load_hardware(name)
    assert profile.matrix_rate(DType.FP32) == profile.vector_flops_per_s == pytest.approx(cores * ghz * 1e9 * width)
    assert round(profile.vector_flops_per_s / 1e12, 1) == printed
    assert profile.memory_bytes_per_s == bandwidth * 1e9
    assert profile.caches[-1].bytes == cache * 2**20
    assert (profile.cores, profile.peak_power_w) == (cores, power)
    assert (profile.kind, profile.asynchronous, profile.kernel_floor_s) == ("cpu", False, 0)


def test_cpu_16_bit_rates_follow_the_instruction_set() -> None:
    zen4, xeon = load_hardware("epyc-9654"), load_hardware("xeon-8480plus")
    assert zen4.matrix_rate(DType.BF16) == 2 * zen4.matrix_rate(DType.FP32)  # AVX512_BF16
    assert xeon.matrix_rate(DType.BF16) == 56 * 2.0e9 * 1024  # AMX
    assert not xeon.figures["matrix_flops_per_s.bf16"].verified  # the clock under AMX is lower
    assert list(load_hardware("epyc-7763").matrix_flops_per_s) == [DType.FP32]


@pytest.mark.parametrize("name", SPARSE_BF16)
def test_rates_are_dense(name: str) -> None:
    assert load_hardware(name).matrix_rate(DType.BF16) <= SPARSE_BF16[name] * 1e12 / 2 * 1.0002


@pytest.mark.parametrize("name", [*GPUS, *CPUS])
def test_rates_are_ordered_by_width(name: str) -> None:
    """A wider type is never faster: a swapped column would break this."""
    rates = load_hardware(name).matrix_flops_per_s
    order = [DType.FP32, DType.TF32, DType.FP16, DType.BF16, DType.FP8]
    present = [rates[dtype] for dtype in order if dtype in rates]
    assert present == sorted(present)


@pytest.mark.parametrize("name", [*GPUS, *CPUS])
def test_every_file_is_named_after_its_device_and_uses_its_sources(name: str) -> None:
    raw = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    assert raw["name"] == name
    used = {each["source"] for head in raw["figures"].values() for each in _leaves(head)}
    assert used == set(raw["sources"])


def _leaves(table: dict) -> list[dict]:
    return [table] if "value" in table else list(table.values())


@pytest.mark.parametrize("name", [*GPUS, *CPUS])
def test_figures_without_a_datasheet_are_not_verified(name: str) -> None:
    profile = load_hardware(name)
    for key in ("host_launch_s", "kernel_floor_s", "idle_power_w"):
        assert key not in profile.figures or not profile.figures[key].verified
    assert all(figure.source for figure in profile.figures.values())


ARCHITECTURES = {
    "volta": {"v100-sxm2-16gb", "v100-sxm2-32gb"},
    "turing": {"t4"},
    "ampere": {"a100-sxm-40gb", "a100-sxm-80gb", "a100-pcie-40gb", "a100-pcie-80gb"},
    "ampere-consumer": {"a40", "a10", "rtx-3090"},
    "ada": {"l4", "l40", "l40s", "rtx-4090"},
    "hopper": {"h100-sxm-80gb", "h100-pcie-80gb", "h200-sxm", "h20"},
    "blackwell": {"b200-sxm"},
    "blackwell-consumer": {"rtx-5090", "rtx-pro-6000"},
    "cdna3": {"mi300x"},
    "avx2": {"epyc-7763"},
    "avx512": {"epyc-9654", "amd-epyc-2t"},
    "amx": {"xeon-8480plus"},
}


def test_every_profile_names_its_architecture() -> None:
    found = {name: load_hardware(name).architecture for name in builtin_hardware()}
    assert found == {name: word for word, names in ARCHITECTURES.items() for name in names}


@pytest.mark.parametrize("name", GPUS)
def test_the_vector_rate_over_all_lanes_is_a_clock(name: str) -> None:
    """A wrong digit in the rate or the SMs, or a rate in another type, makes no clock that such a card has."""
    profile = load_hardware(name)
    lanes = 64 if profile.architecture in ("volta", "turing", "ampere") else 128
    assert 1.4e9 < profile.vector_flops_per_s / (profile.cores * lanes * 2) < 2.6e9


UNVERIFIED = {
    "l40s": ["vector_flops_per_s"],
    "a40": ["caches.l2"],
    "v100-sxm2-32gb": ["matrix_flops_per_s.fp16", "vector_flops_per_s", "caches.l2", "peak_power_w"],
    "epyc-7763": ["peak_power_w"],
}


@pytest.mark.parametrize("name", UNVERIFIED)
def test_doubtful_figures_are_marked(name: str) -> None:
    assert not any(load_hardware(name).figures[key].verified for key in UNVERIFIED[name])


def test_verified_as_a_whole_means_the_rates_and_the_bandwidth() -> None:
    assert [load_hardware(name).verified for name in ("a100-sxm-80gb", "a40", "l40s", "xeon-8480plus")] == [1, 1, 0, 0]


def test_conversion_leaves_no_binary_noise() -> None:
    profile = load_hardware("h100-sxm-80gb")
    assert profile.matrix_rate(DType.BF16) == 989_400_000_000_000
    assert (profile.host_launch_s, profile.kernel_floor_s) == (10e-6, 2.4e-6)
    assert load_hardware("a100-sxm-80gb").ridge_flops_per_byte(DType.BF16) == pytest.approx(153.02, abs=0.01)


def test_a_profile_is_immutable_and_cheap_to_hash() -> None:
    profile = load_hardware("t4")
    assert load_hardware("t4") is profile
    assert hash(profile) == object.__hash__(profile)
    with pytest.raises(dataclasses.FrozenInstanceError):
        profile.cores = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        profile.matrix_flops_per_s[DType.FP32] = 1.0  # type: ignore[index]


def test_a_missing_rate_is_an_error_that_lists_the_others() -> None:
    with pytest.raises(HardwareError, match=r"^a100-sxm-80gb has no fp8 rate; allowed: fp32, tf32, fp16, bf16, int8$"):
        load_hardware("a100-sxm-80gb").matrix_rate(DType.FP8)


def test_the_file_schema_knows_every_dtype() -> None:
    assert PARTS["matrix_tflop_per_s"] == tuple(dtype.value for dtype in DType)


@pytest.mark.parametrize("name", ["a100", "", "no such thing", "x" * 5000])
def test_unknown_name(name: str) -> None:
    with pytest.raises(HardwareError, match=r"unknown hardware: got .*(did you mean|known:).*hw list") as caught:
        load_hardware(name)
    assert len(str(caught.value)) < 700


def test_names_ignore_case() -> None:
    assert load_hardware("A100-SXM-80GB") is load_hardware("a100-sxm-80gb")


def test_nearest_names_are_offered() -> None:
    with pytest.raises(HardwareError, match="did you mean a100-sxm-80gb"):
        load_hardware("a100-sxm-80g")


def test_a_built_in_name_wins_over_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t4").write_text("not a profile")
    assert load_hardware("t4").name == "t4"
    with pytest.raises(HardwareError, match="is not TOML"):
        load_hardware("./t4")


def test_a_path_as_text_and_as_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(FOLDER / "t4.toml", "mine")
    for path in ("mine", "./mine", str(tmp_path / "mine"), Path("mine")):
        assert load_hardware(path).name == "t4"


# ---- malformed files: (text to replace in a good file, replacement, what the one-line error must say)
BANDWIDTH = "memory_gb_per_s         = { value = 320,"
POWER = "peak_power_w            = { value = 70,"
MALFORMED = {
    "missing figure": ("memory_gb_per_s ", "#", "figures.memory_gb_per_s is missing"),
    "missing value": (BANDWIDTH, "memory_gb_per_s = {", "figures.memory_gb_per_s.value is missing"),
    "missing name": ("name =", "# name =", ": name is missing"),
    "missing figures": ("[figures]", "[sources.figures]", ": figures is missing"),
    "string": (BANDWIDTH, 'memory_gb_per_s = { value = "320",', "_s.value: got '320'; allowed: a number from"),
    "boolean": (BANDWIDTH, "memory_gb_per_s = { value = true,", "figures.memory_gb_per_s.value: got True"),
    "list": (BANDWIDTH, "memory_gb_per_s = { value = [320],", "figures.memory_gb_per_s.value: got [320]"),
    "date": (BANDWIDTH, "memory_gb_per_s = { value = 2024-01-01,", "figures.memory_gb_per_s.value: got datetime"),
    "bare number": (POWER, "peak_power_w = 3 # {", "figures.peak_power_w: got 3; allowed: { value = ..., source"),
    "negative": (BANDWIDTH, "memory_gb_per_s = { value = -320,", "_s.value: got -320; allowed: a number from 1e-06"),
    "zero": (BANDWIDTH, "memory_gb_per_s = { value = 0,", "memory_gb_per_s.value: got 0; allowed: a number from"),
    "infinite": (BANDWIDTH, "memory_gb_per_s = { value = inf,", "gb_per_s.value: got inf; allowed: a finite number"),
    "nan": (BANDWIDTH, "memory_gb_per_s = { value = nan,", "figures.memory_gb_per_s.value: got nan; allowed: a finite"),
    "absurd": (BANDWIDTH, "memory_gb_per_s = { value = 2e9,", "figures.memory_gb_per_s.value: got 2000000000.0; allo"),
    "huge": (BANDWIDTH, f"memory_gb_per_s = {{ value = {10**400},", "figures.memory_gb_per_s.value: got 1000"),
    "negative time": ("value = 10, ", "value = -1, ", "host_launch_us.value: got -1; allowed: a number from 0 to"),
    "fraction of a core": ("value = 40, ", "value = 40.5, ", "cores.value: got 40.5; allowed: a whole number from"),
    "unknown figure": (BANDWIDTH, BANDWIDTH.replace("memory_gb_per_s", "bandwidth"), "in figures: got 'bandwidth'"),
    "unknown key": ("[figures]", "[figures]\nram = 3", "unknown key in figures: got 'ram'; allowed: matrix_tflop"),
    "unknown dtype": (".fp16", ".fp64", "unknown key in figures.matrix_tflop_per_s: got 'fp64'; allowed: fp32, tf32"),
    "unknown cache": ("cache_mib.l2", "cache_mib.l9", "unknown key in figures.cache_mib: got 'l9'; allowed: l2, l3"),
    "unknown in a figure": ("value = 320,", "value = 320, unit = 1,", "figures.memory_gb_per_s: got 'unit'; allowed: "),
    "unknown at the top": ("schema = 1", "schema = 1\nmaker = 1", "unknown key in the file: got 'maker'; allowed: "),
    "unknown source": ('source = "datasheet"', 'source = "web"', ".source: got 'web'; allowed: datasheet, whitepaper"),
    "source of no text": ("datasheet    = ", "datasheet = 5 #", "sources.datasheet: got 5; allowed: a text"),
    "source of blanks": ("datasheet    = ", 'datasheet = " " #', "sources.datasheet: got ' '; allowed: a text"),
    "unsure": ("verified = true", 'verified = "yes"', "verified: got 'yes'; allowed: true or false"),
    "architecture": (
        'architecture = "turing"',
        'architecture = "tesla"',
        "architecture: got 'tesla'; allowed: volta,",
    ),
    "kind": ('kind = "gpu"', 'kind = "tpu"', "kind: got 'tpu'; allowed: gpu, cpu"),
    "name": ('name = "t4"', 'name = "../t4"', "name: got '../t4'; allowed: letters, digits and"),
    "idle above peak": (POWER, POWER.replace("70", "9"), "idle_power_w.value: got 10; allowed: less than peak_p"),
    "newer schema": ("schema = 1", "schema = 2", "schema: got 2; allowed: 1; written for another version"),
    "no schema": ("schema = 1", "", "schema is missing; allowed: 1"),
    "boolean schema": ("schema = 1", "schema = true", "schema: got True; allowed: 1"),
    "twice": (BANDWIDTH, f"{BANDWIDTH} verified = true, source = 'datasheet' }}\n{BANDWIDTH}", "is not TOML"),
    "not TOML": ("schema = 1", "{", "is not TOML"),
    "JSON": ("schema = 1", '{"schema": 1}', "is not TOML"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_file(case: str, tmp_path: Path) -> None:
    old, new, expected = MALFORMED[case]
    good = (FOLDER / "t4.toml").read_text()
    assert old in good
    path = tmp_path / "bad.toml"
    path.write_text(good.replace(old, new))
    _assert_one_line_error(path, expected)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "schema is missing"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"schema = 1", "name is missing"),
        (b"schema = 1\nname = 't'\ndescription = 'd'\nkind = 'cpu'\nsources = 1\nfigures = {}", "sources: got 1"),
        (b"schema = 1\nname = 't'\ndescription = 'd'\nkind = 'cpu'\nsources = {}\nfigures = []", "figures: got []"),
        (b"a = " + b"[" * 100_000, "nested too deeply"),
        (b"#" * 2_000_000, "too large"),
    ],
    ids=["empty", "not UTF-8", "only a schema", "sources no table", "figures no table", "nested", "large"],
)
def test_malformed_bytes(content: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    _assert_one_line_error(path, expected)


def test_without_any_matrix_rate(tmp_path: Path) -> None:
    good = (FOLDER / "t4.toml").read_text().splitlines()
    path = tmp_path / "bad.toml"
    path.write_text("\n".join(line for line in good if not line.startswith("matrix_tflop_per_s")))
    _assert_one_line_error(path, "figures.matrix_tflop_per_s is missing")
    path.write_text(path.read_text().replace("[figures]", "[figures]\nmatrix_tflop_per_s = {}"))
    _assert_one_line_error(path, "figures.matrix_tflop_per_s is empty; allowed: at least one of fp32")


def test_directory_and_missing_file(tmp_path: Path) -> None:
    _assert_one_line_error(tmp_path, "this is a folder")
    _assert_one_line_error(tmp_path / "none.toml", "No such file or directory")


def _assert_one_line_error(path: Path, expected: str) -> None:
    with pytest.raises(HardwareError) as caught:
        load_hardware(str(path))
    text = str(caught.value)
    assert str(path) in text
    assert expected in text
    assert "\n" not in text
    assert len(text) < 500


def test_the_example_in_the_readme_is_a_valid_profile(tmp_path: Path) -> None:
    path = tmp_path / "my-device.toml"
    path.write_text((FOLDER / "README.md").read_text().split("```toml\n")[1].split("```")[0])
    profile = load_hardware(path)
    assert profile.name == "my-device"
    assert profile.matrix_rate(DType.BF16) == 121e12
    assert profile.idle_power_w is None


def test_a_profile_without_an_architecture_takes_after_none(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((FOLDER / "t4.toml").read_text().replace('architecture = "turing"', ""))
    assert load_hardware(path).architecture is None


def test_what_was_read_in_no_document_of_the_vendor_is_not_verified() -> None:
    for name in ("b200-sxm", "rtx-5090", "rtx-pro-6000", "h20", "rtx-3090", "l40", "a10"):
        assert not any(figure.verified for figure in load_hardware(name).figures.values())


def test_found_beside_the_package_when_not_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hardware.profile_folder() == ROOT / "hw_profiles"


def test_importing_is_light_and_loading_is_quick() -> None:
    code = """if True:
        import sys, costmodel.hardware.profile
        heavy = {"numpy", "networkx", "rich", "msgspec", "torch", "click", "tomllib"} & set(sys.modules)
        assert not heavy, heavy
        assert costmodel.hardware.profile.load_hardware("t4").cores == 40
        assert not {"numpy", "networkx", "rich", "torch"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    load_hardware("t4")
    times = []
    for name in [*GPUS, *CPUS]:
        start = time.perf_counter()
        load_hardware(FOLDER / f"{name}.toml")  # a path is not cached
        times.append(time.perf_counter() - start)
    assert sorted(times)[len(times) // 2] < 5e-3
