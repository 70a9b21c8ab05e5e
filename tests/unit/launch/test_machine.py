"""What is noted of the machine."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from hfscale.launch.machine import _power_limit_watts


@pytest.mark.parametrize(
    ("answer", "watts"),
    [("echo 700.00", 700.0), ("echo '[N/A]'", None), ("echo No devices were found; exit 6", None), (None, None)],
)
def test_the_power_limit_of_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, watts: float) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin" if answer else str(tmp_path))
    if answer:
        (tmp_path / "nvidia-smi").write_text(f'#!/bin/sh\n[ "$2" = GPU-a1 ] || exit 1\n{answer}\n')
        (tmp_path / "nvidia-smi").chmod(0o755)
    assert _power_limit_watts(SimpleNamespace(uuid="a1")) == watts
    assert _power_limit_watts(SimpleNamespace(uuid="b2")) is None
