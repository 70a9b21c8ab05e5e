"""GPUs: what they hold, compute and exchange, from their data sheets.

`bf16_tflops` is the dense peak, half of what is printed where a sheet counts sparsity. Data sheets give links in both
directions together; here they are per direction.
"""

from __future__ import annotations

import difflib
from typing import NamedTuple

from hfscale.errors import SettingsError


class Gpu(NamedTuple):
    """One kind of GPU."""

    name: str
    title: str
    memory_gib: float
    """Memory that a driver offers to programs, 2**30 bytes."""
    bf16_tflops: float | None
    """10**12 operations per second of dense bf16 matrix products; None where there are none."""
    fp32_tflops: float
    """10**12 operations per second in float32 outside the tensor cores, which is what torch uses by default."""
    bandwidth_gb_s: float
    """10**9 bytes per second to its own memory."""
    link_gb_s: float
    """10**9 bytes per second and direction to the other GPUs of its node."""
    host_gb_s: float
    """10**9 bytes per second and direction to the CPU's memory."""
    source: str


_HOPPER = "NVIDIA H100 Tensor Core GPU data sheet, SXM5: 1,979 with sparsity; NVLink 900 GB/s, PCIe Gen5 128 GB/s"
_AMPERE = "NVIDIA A100 Tensor Core GPU data sheet, SXM4; NVLink 600 GB/s, PCIe Gen4 64 GB/s"

GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("b200", "NVIDIA B200", 178.0, 2250, 75, 7700, 900, 64,
            "NVIDIA DGX B200 data sheet over 8: 36 PFLOPS bf16 with sparsity; NVLink 1.8 TB/s"),
        Gpu("h200", "NVIDIA H200 141 GB", 139.8, 989.4, 66.9, 4800, 450, 64,
            "NVIDIA H200 Tensor Core GPU data sheet, SXM: 1,979 with sparsity; NVLink 900 GB/s, PCIe Gen5 128 GB/s"),
        Gpu("h100", "NVIDIA H100 80 GB SXM", 79.2, 989.4, 66.9, 3350, 450, 64, _HOPPER),
        Gpu("h100-pcie", "NVIDIA H100 80 GB PCIe", 79.2, 756, 51.2, 2000, 64, 64,
            "NVIDIA H100 Tensor Core GPU data sheet, PCIe: 1,513 with sparsity; PCIe Gen5 128 GB/s, no bridge"),
        Gpu("a100", "NVIDIA A100 80 GB SXM", 79.2, 312, 19.5, 2039, 300, 32, _AMPERE),
        Gpu("a100-40", "NVIDIA A100 40 GB SXM", 39.4, 312, 19.5, 1555, 300, 32, _AMPERE),
        Gpu("l40s", "NVIDIA L40S 48 GB", 44.4, 362, 91.6, 864, 32, 32,
            "NVIDIA L40S data sheet: 733 with sparsity; PCIe Gen4 64 GB/s; memory with ECC"),
        Gpu("l4", "NVIDIA L4 24 GB", 22.0, 121, 30.3, 300, 32, 32,
            "NVIDIA L4 Tensor Core GPU data sheet: 242 with sparsity; PCIe Gen4 64 GB/s; memory with ECC"),
        Gpu("a10", "NVIDIA A10 24 GB", 22.0, 125, 31.2, 600, 32, 32,
            "NVIDIA A10 Tensor Core GPU data sheet: 125, 250 with sparsity; PCIe Gen4 64 GB/s; memory with ECC"),
        Gpu("a6000", "NVIDIA RTX A6000 48 GB", 47.4, 154.8, 38.7, 768, 32, 32,
            "NVIDIA RTX A6000 data sheet: 309.7 with sparsity; PCIe Gen4 64 GB/s, no bridge"),
        Gpu("rtx4090", "NVIDIA GeForce RTX 4090 24 GB", 23.6, 165.2, 82.6, 1008, 32, 32,
            "NVIDIA Ada GPU Architecture white paper, table of the RTX 4090: bf16 with fp32 accumulation; PCIe Gen4"),
        Gpu("rtx3090", "NVIDIA GeForce RTX 3090 24 GB", 23.7, 71, 35.6, 936, 32, 32,
            "NVIDIA Ampere GA102 GPU Architecture white paper: bf16 with fp32 accumulation; PCIe Gen4, no bridge"),
        Gpu("t4", "NVIDIA T4 16 GB", 14.6, None, 8.1, 320, 16, 16,
            "NVIDIA T4 Tensor Core GPU data sheet: no bf16; PCIe Gen3 32 GB/s; memory with ECC"),
    )
}  # fmt: skip


def find_gpu(name: str) -> Gpu:
    """The GPU of that name.

    Raises:
        SettingsError: for a name that is not in the table, with the nearest ones.
    """
    wanted = name.lower().replace(" ", "").replace("_", "-")
    if wanted in GPUS:
        return GPUS[wanted]
    near = difflib.get_close_matches(wanted, GPUS, n=3, cutoff=0.4)
    raise SettingsError(
        f"--gpu {name} is not known; "
        + (f"did you mean {', '.join(near)}? " if near else "")
        + f"There are {', '.join(GPUS)}"
    )
