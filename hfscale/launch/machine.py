"""What a run ran on, for `environment.json`: enough to reproduce it, no user, host or path."""

from __future__ import annotations

import importlib.metadata
import os
import platform
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


def environment(accelerator: Accelerator) -> dict[str, Any]:
    """Versions, device, threads and how the processes were started."""
    import torch

    device = accelerator.device
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cuda": torch.version.cuda,
        "num_processes": accelerator.num_processes,
        "distributed_type": accelerator.distributed_type.value,
        "precision": "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision,
        "cpu_cores": os.cpu_count(),
        "threads_per_process": torch.get_num_threads(),
    }
