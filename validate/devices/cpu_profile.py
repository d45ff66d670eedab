"""A minimal hardware profile of the CPU at hand: cores, clock, instruction set, measured read bandwidth; unverified."""

from __future__ import annotations

import re
import statistics
import time
from pathlib import Path

import psutil
import torch

from validate.devices.cpu import last_level_cache_bytes
from validate.devices.facts import KnownDevice

BUFFER_BYTES = 256 * 2**20
_REPEATS = 8
_FMA_FLOPS = {"avx512": 64, "avx2": 32, "neon": 16, "none": 8}
"""FP32 FLOP per cycle and core: two fused multiply-adds of 512, 256 or 128 bits."""
_DOUBLE_PUMPED = {("AuthenticAMD", 25)}
"""Vendor and family whose 512-bit operations take two cycles (Zen 4)."""


def profile_text(device: KnownDevice) -> str:
    """The profile in the schema of hw_profiles/README.md; every figure is marked unverified.

    Takes about a second, for the bandwidth. It is named after the processor and the number of threads; its description
    says how many sockets and NUMA nodes the machine has, whose memories are priced as one.
    """
    threads = torch.get_num_threads()
    name = f"{re.sub('[^a-z0-9]+', '-', device.name.lower()).strip('-') or 'cpu'}-{threads}t"
    info = _cpu_info()
    clock_ghz = _clock_ghz(info)
    flags = set(info.get("flags", info.get("Features", "")).split())
    isa = next(
        (each for each, flag in (("avx512", "avx512f"), ("avx2", "fma"), ("neon", "asimd")) if flag in flags), "none"
    )
    per_cycle = _FMA_FLOPS[isa]
    if isa == "avx512" and (info.get("vendor_id"), int(info.get("cpu family", 0))) in _DOUBLE_PUMPED:
        per_cycle //= 2
    fp32 = threads * clock_ghz * per_cycle / 1e3
    rates = {"fp32": fp32}
    if "amx_bf16" in flags:
        rates["bf16"] = threads * clock_ghz * 1024 / 1e3
    elif "avx512_bf16" in flags:
        rates["bf16"] = 2 * fp32
    bandwidth = read_bandwidth() / 1e9
    sources = {
        "system": "as the operating system reports it",
        "isa": f"{threads} core(s) x {clock_ghz:.2f} GHz x {per_cycle} FP32 FLOP/cycle ({isa}); bf16 as its "
        "instructions allow",
        "measured": f"reading {BUFFER_BYTES >> 20} MiB with {threads} thread(s), best of {_REPEATS}",
        "launch": "median time of a torch addition of one number",
        "estimate": "part of the launch time on a CPU",
    }
    figures = [f"matrix_tflop_per_s.{dtype} = {_figure(rate, 'isa')}" for dtype, rate in rates.items()]
    figures += [
        f"vector_tflop_per_s = {_figure(fp32, 'isa')}",
        f"memory_gb_per_s = {_figure(bandwidth, 'measured')}",
        f"memory_gb = {_figure(device.memory_bytes / 1e9, 'system')}",
        f"cache_mib.l3 = {_figure(last_level_cache_bytes() / 2**20, 'system')}",
        f'cores = {{ value = {threads}, verified = false, source = "system" }}',
        f"host_launch_us = {_figure(launch_seconds() * 1e6, 'launch')}",
        f"kernel_floor_us = {_figure(0.0, 'estimate')}",
    ]
    where = "".join(f" of {count} {what}(s)" for what, count in memory_places().items() if count)
    description = re.sub(r"[^ -~]|[\"\\]", " ", f"{device.name}, {threads} thread(s){where}, written by validate")
    lines = ["schema = 1", f'name = "{name}"', f'description = "{description}"', 'kind = "cpu"']
    if architecture := "amx" if "amx_bf16" in flags else isa if isa in ("avx2", "avx512") else None:
        lines.append(f'architecture = "{architecture}"')
    lines += ["", "[sources]"]
    lines += [f'{key} = "{text}"' for key, text in sources.items()]
    return "\n".join([*lines, "", "[figures]", *figures]) + "\n"


def memory_places(system: Path = Path("/sys/devices/system")) -> dict[str, int]:
    """Sockets and NUMA nodes of the machine as Linux lists them; 0 where it does not."""
    packages = {path.read_text().strip() for path in system.glob("cpu/cpu[0-9]*/topology/physical_package_id")}
    return {"socket": len(packages), "NUMA node": len(list(system.glob("node/node[0-9]*")))}


def read_bandwidth(buffer_bytes: int = BUFFER_BYTES) -> float:
    """Bytes per second of summing a buffer several times the last cache, with torch's threads; the best of several."""
    buffer = torch.ones(buffer_bytes // 8, dtype=torch.int64)
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        buffer.sum()
        seconds.append(time.perf_counter() - start)
    return buffer.nbytes / min(seconds)


def launch_seconds(repeats: int = 2000) -> float:
    """Median time of an addition of one number: what an eager operation costs before it does any work."""
    one = torch.ones(1)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        one + one
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _figure(value: float, source: str) -> str:
    return f'{{ value = {value:.6g}, verified = false, source = "{source}" }}'


def _cpu_info() -> dict[str, str]:
    """The first processor's entry of /proc/cpuinfo."""
    path = Path("/proc/cpuinfo")
    entry = path.read_text().split("\n\n")[0] if path.exists() else ""
    pairs = (line.partition(":") for line in entry.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _clock_ghz(info: dict[str, str]) -> float:
    frequency = psutil.cpu_freq()
    mhz = float(info.get("cpu MHz", 0)) or (frequency.max or frequency.current if frequency else 0)
    return mhz / 1e3 or 2.0
