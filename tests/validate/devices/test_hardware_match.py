"""`--hw auto`: names of devices to profiles, and the profile that is written for a CPU. NVML on a pretended library."""

from __future__ import annotations

import shutil
import types
from pathlib import Path

import pytest

pytest.importorskip("torch")

from validating import FakeGpu

from costmodel.errors import HardwareError
from costmodel.hardware.here import VARIABLE
from costmodel.hardware.profile import load_hardware, profile_folder
from costmodel.units import DType
from validate.devices.cpu import CpuDevice
from validate.devices.cpu_profile import memory_places, read_bandwidth
from validate.devices.environment import environment
from validate.devices.hardware_match import hardware_for, match_profile, mismatch
from validate.devices.nvml import Nvml
from validate.devices.opening import open_device


@pytest.mark.parametrize(
    ("device", "profile"),
    [
        ("NVIDIA A100-SXM4-40GB", "a100-sxm-40gb"),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm-80gb"),
        ("NVIDIA A100-PCIE-40GB", "a100-pcie-40gb"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm-80gb"),
        ("NVIDIA H100 PCIe", "h100-pcie-80gb"),
        ("NVIDIA H200", "h200-sxm"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA A40", "a40"),
        ("Tesla T4", "t4"),
        ("Tesla V100-SXM2-16GB", "v100-sxm2-16gb"),
        ("Tesla V100-SXM2-32GB", "v100-sxm2-32gb"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("AMD Instinct MI300X", "mi300x"),
        ("NVIDIA L40", "l40"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA H20", "h20"),
        ("NVIDIA B200", "b200-sxm"),
        ("NVIDIA GeForce RTX 3090", "rtx-3090"),
        ("NVIDIA GeForce RTX 5090", "rtx-5090"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "rtx-pro-6000"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", None),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA GB200", None),
        ("NVIDIA H100 NVL", None),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", None),
        ("NVIDIA A10G", None),
        ("NVIDIA T400", None),
    ],
)
def test_names(device: str, profile: str | None) -> None:
    assert match_profile(device) == profile
    if profile:
        load_hardware(profile)


def test_a_cpu_gets_a_profile_of_its_own_once(tmp_path: Path) -> None:
    device = CpuDevice(1)
    profile = hardware_for("auto", device, tmp_path)
    assert profile.kind == "cpu"
    assert profile.name.endswith("-1t")
    assert not profile.verified
    assert not any(figure.verified for figure in profile.figures.values())
    assert profile.cores == 1
    assert 1e9 < profile.memory_bytes_per_s < 1e12
    assert 1e9 < profile.matrix_rate(DType.FP32) < 1e12
    text = (tmp_path / "hardware.toml").read_text()
    again = hardware_for("auto", device, tmp_path)
    assert again.memory_bytes_per_s == profile.memory_bytes_per_s
    assert (tmp_path / "hardware.toml").read_text() == text


def test_a_machine_that_was_probed_is_taken_as_it_was_probed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    shutil.copyfile(profile_folder() / "amd-epyc-2t.toml", tmp_path / "hardware.toml")
    out, told = tmp_path / "run", list[str]()
    out.mkdir()
    assert hardware_for("auto", CpuDevice(2), out, probed=told.append) == load_hardware("auto")
    assert told == ["--hw auto: amd-epyc-2t, as hardware.toml describes this machine"]
    assert list(out.iterdir()) == []
    assert hardware_for("auto", FakeGpu(), out, probed=told.append).name == "h100-sxm-80gb"
    assert told[1] == "--hw auto: hardware.toml is left aside, of a cpu, for a gpu is measured"
    written = hardware_for("auto", CpuDevice(1), out, probed=told.append)
    assert (written.cores, told[2]) == (
        1,
        "--hw auto: hardware.toml is left aside, of 2 threads, for 1 are measured",
    )
    assert hardware_for("auto", CpuDevice(2), out, probed=told.append) == written  # of a run that began without
    assert len(told) == 3


def test_a_gpu_is_matched_or_refused(tmp_path: Path) -> None:
    gpu = FakeGpu()
    assert hardware_for("auto", gpu, tmp_path).name == "h100-sxm-80gb"
    assert hardware_for("t4", gpu, tmp_path).name == "t4"
    gpu.name = "Unheard-of 9000"
    with pytest.raises(HardwareError, match="no built-in profile for this device: got 'Unheard-of 9000'"):
        hardware_for("auto", gpu, tmp_path)


def test_bandwidth_is_a_rate() -> None:
    assert 1e8 < read_bandwidth(2**22) < 1e13


def test_environment_is_json_without_names() -> None:
    import json
    import platform

    text = json.dumps(environment(open_device("cpu", 1)))
    assert '"torch"' in text
    assert platform.node() not in text or len(platform.node()) < 4


class Refused(Exception):
    """NVML's error."""


def library(**functions: object) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        NVMLError=Refused,
        NVML_CLOCK_SM=1,
        NVML_CLOCK_MEM=2,
        nvmlClocksThrottleReasonSwPowerCap=4,
        nvmlClocksThrottleReasonHwSlowdown=8,
        **functions,
    )


def refuse(*arguments: object) -> None:
    raise Refused


def test_nvml_readings() -> None:
    full = library(
        nvmlDeviceGetPowerUsage=lambda handle: 350_500,
        nvmlDeviceGetClockInfo=lambda handle, which: 1000 * which,
        nvmlDeviceGetTemperature=lambda handle, sensor: 44,
        nvmlSystemGetDriverVersion=lambda: "555.1",
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: 4,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: 12_345,
    )
    nvml = Nvml(full, "handle")
    assert nvml.conditions() == {
        "sm_clock_mhz": 1000,
        "memory_clock_mhz": 2000,
        "temperature_c": 44,
        "power_w": 350.5,
        "throttle": ["SwPowerCap"],
        "driver": "555.1",
    }
    assert nvml.energy_j() == 12.345


def test_nvml_missing_or_refusing_is_null() -> None:
    old = library(
        nvmlDeviceGetPowerUsage=refuse,
        nvmlDeviceGetClockInfo=refuse,
        nvmlDeviceGetTemperature=refuse,
        nvmlSystemGetDriverVersion=refuse,
        nvmlDeviceGetCurrentClocksThrottleReasons=refuse,
        nvmlDeviceGetTotalEnergyConsumption=refuse,
    )
    for nvml in (Nvml(None, None), Nvml(old, "handle"), Nvml.open("", 0)):
        assert set(nvml.conditions().values()) == {None}
        assert nvml.energy_j() is None


@pytest.mark.gpu
def test_a_real_gpu_times_graphs_and_launches() -> None:
    import torch

    from costmodel.forward.workload import Runtime

    device = open_device("cuda")
    weights = torch.randn(2048, 2048, device=device.torch_device, dtype=torch.float16)
    for runtime in Runtime:
        work = device.prepare(lambda: weights @ weights, runtime)
        seconds = device.time([work] * 10, runtime)
        assert len(seconds) == 10
        assert all(1e-6 < value < 1 for value in seconds)
    assert device.peak_memory(lambda: weights @ weights).peak_allocated_bytes >= 2 * weights.nbytes
    assert device.cache_bytes > 2**20


@pytest.mark.parametrize(
    ("kind", "name", "predicted", "unlike"),
    [
        ("cpu", "AMD EPYC", "l4", True),
        ("cpu", "AMD EPYC", "epyc-7763", False),
        ("cuda", "NVIDIA L4", "epyc-7763", True),
        ("cuda", "NVIDIA L4", "t4", True),
        ("cuda", "NVIDIA L4", "l4", False),
        ("cuda", "NVIDIA A10G", "l4", False),
    ],
)
def test_predictions_of_another_device_than_is_measured_are_warned_of(
    kind: str, name: str, predicted: str, unlike: bool
) -> None:
    text = mismatch(types.SimpleNamespace(kind=kind, name=name), load_hardware(predicted))  # type: ignore[arg-type]
    assert (text is not None) == unlike
    assert text is None or (name in text and predicted in text)


def test_sockets_and_numa_nodes_are_those_that_linux_lists(tmp_path: Path) -> None:
    for cpu, package in enumerate((0, 0, 1, 1)):
        topology = tmp_path / "cpu" / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text(f"{package}\n")
    for node in range(4):
        (tmp_path / "node" / f"node{node}").mkdir(parents=True)
    (tmp_path / "node" / "online").write_text("0-3\n")
    assert memory_places(tmp_path) == {"socket": 2, "NUMA node": 4}
    assert memory_places(tmp_path / "nowhere") == {"socket": 0, "NUMA node": 0}
