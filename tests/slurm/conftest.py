"""A real cluster, and one tiny run to submit to it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import FINETUNE_BERT, ROOT
from tests.support.slurm import Cluster, why_not
from tests.support.tiny import reviews, write_csv, write_tiny_bert

NODES = 14  # more than the jobs of a test take, less those that a test has lost
STEPS = 16
HOOKS = "tests/support/hooks.py"


class Jobs:
    """Runs of one model on one cluster, by name."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        write_csv(folder / "rows.csv", reviews(40))
        for name, dropout in (("bert", 0.0), ("dropout", 0.2)):
            write_tiny_bert(folder / name, dropout=dropout)
        (folder / "slurm.yaml").write_text(f"venv: {sys.prefix}\nwarn_seconds: 30\ntry_node: false\n")

    def words(self, name: str, model: str = "bert") -> list[Any]:
        """The recipe's command line."""
        data = ["--data.train", self.folder / "rows.csv", "--data.validation", self.folder / "rows.csv"]
        steps = ["--train.max_steps", STEPS, "--train.log_steps", 1, "--train.save_steps", 4, "--baselines", "false"]
        sizes = ["--optim.lr", "5e-3", "--train.global_batch_size", 8, "--train.micro_batch_size", 2]
        model_words = [FINETUNE_BERT, "--model.name", self.folder / model]
        return [*model_words, *data, *steps, *sizes, "--train.output_dir", self.folder / name]

    def hfscale(self, *words: Any, environment: dict[str, str] | None = None) -> Any:
        """`hfscale slurm WORDS`, as on the cluster's login node."""
        command = [sys.executable, "-m", "hfscale", "slurm", *map(str, words)]
        env = {**self.cluster.environment, "OMP_NUM_THREADS": "1", **(environment or {})}
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)

    def submit(self, name: str, *options: Any, model: str = "bert", **hooks: Any) -> str:
        """The job's number. Each job has its nodes for itself."""
        words = [HOOKS, json.dumps(hooks), *self.words(name, model), "--cluster", self.folder / "slurm.yaml", *options]
        done = self.hfscale("submit", *words, environment={"SBATCH_EXCLUSIVE": "exclusive"})
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads((self.folder / name / "slurm" / "job.json").read_text())["job"]

    def said(self, name: str) -> str:
        """All logs of a run."""
        return self.hfscale("logs", self.folder / name).stdout

    def when_saved(self, name: str, action: Callable[[], Any]) -> Future[None]:
        """Do something to a run as soon as it has a checkpoint, while other jobs are being submitted."""
        pool = ThreadPoolExecutor(1)
        try:
            return pool.submit(self.disturb, name, action)
        finally:
            pool.shutdown(wait=False)

    def disturb(self, name: str, action: Callable[[], Any], seconds: float = 400) -> None:
        """Do something to a run as soon as it has a checkpoint."""
        end = time.monotonic() + seconds
        while not any((self.folder / name / "checkpoints").glob("step-*")):
            assert time.monotonic() < end, self.said(name)[-2000:]
            time.sleep(0.2)
        action()


@pytest.fixture(scope="package")
def jobs() -> Iterator[Jobs]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="hfscale-slurm-"))
    try:
        with Cluster(folder / "cluster", NODES) as cluster:
            yield Jobs(cluster, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
