"""What a run ran on, for `environment.json`: enough to reproduce it, no user, host or path."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelerate import Accelerator

_PACKAGES = (
    "hfscale",
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "tokenizers",
    "evaluate",
    "numpy",
    "safetensors",
)


def _power_limit_watts(gpu: Any) -> float | None:
    """The most that a GPU may take, as it is set; None where `nvidia-smi` can't tell."""
    asked = ["nvidia-smi", "-i", f"GPU-{gpu.uuid}", "--query-gpu=power.limit", "--format=csv,noheader,nounits"]
    try:
        return float(subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout)
    except (OSError, ValueError, AttributeError, subprocess.SubprocessError):
        return None


def environment(accelerator: Accelerator) -> dict[str, Any]:
    """Versions, device, threads and how the processes were started."""
    import torch

    device = accelerator.device
    power = _power_limit_watts(torch.cuda.get_device_properties(device)) if device.type == "cuda" else None
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "power_limit_watts": power,
        "cuda": torch.version.cuda,
        "num_processes": accelerator.num_processes,
        "distributed_type": accelerator.distributed_type.value,
        "precision": "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision,
        "cpu_cores": os.cpu_count(),
        "threads_per_process": torch.get_num_threads(),
    }
