"""A Slurm cluster, and a job on it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hfscale.schemas.checks import require

_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """What is the same for all jobs of a team; one YAML file."""

    partition: str | None = None
    """Partition; by default the cluster's own default."""
    account: str | None = None
    """Account that the hours are booked on."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Features that the nodes must have."""
    gpu_type: str | None = None
    """Type of the GPUs, where a partition has several."""
    gpu: str | None = None
    """What the GPUs are called by `hfscale plan`, as `a100-40`, to estimate memory and time; by default their type."""
    cpus_per_node: int | None = None
    """CPUs of each node that a job takes; by default the cluster's own number."""
    memory_per_node: str | None = None
    """Memory of each node that a job takes, as in `64G`; by default the cluster's own share."""
    modules: list[str] | None = None
    """Environment modules to load on every node."""
    venv: str | None = None
    """Folder of the virtual environment that hfscale is installed in, on a file system that all nodes see."""
    container: str | None = None
    """Image to run in instead (pyxis and enroot)."""
    container_mounts: list[str] | None = None
    """Folders that the container sees, as `FROM:TO`."""
    variables: list[str] | None = None
    """Environment variables of the run, as `NAME=VALUE`."""
    scratch: str | None = None
    """Folder on each node's own disk for temporary files; a folder per job is made in it, and removed."""
    try_node: bool = True
    """Import the environment on a node before a job is submitted, where one is free at once."""
    warn_seconds: int = 300
    """Seconds before the time limit at which the run is told to save; longer than a checkpoint and a step take."""
    max_restarts: int = 100
    """Starts again after which a job ends, saved, instead of being queued once more."""

    def __post_init__(self) -> None:
        require(self.warn_seconds >= 30, "warn_seconds must be at least 30: Slurm looks at the clock that often")
        require(self.max_restarts >= 0, "max_restarts must be at least 0")
        require(self.cpus_per_node is None or self.cpus_per_node >= 1, "cpus_per_node must be at least 1")
        require(not (self.container and self.venv), "venv and container were both given; choose one")
        require(
            self.container is not None or not self.container_mounts, "container_mounts has no effect without container"
        )
        for text in self.variables or []:
            require(re.match(r"[A-Za-z_]\w*=", text) is not None, f"variables: {text!r} is not NAME=VALUE")


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """One job: a command on a number of nodes."""

    command: list[str]
    """Words of the recipe's command line, the recipe first."""
    run_folder: str
    """The run's `train.output_dir`; with `tasks`, the folder around theirs."""
    nodes: int = 1
    """Number of nodes."""
    gpus_per_node: int = 0
    """GPUs of each node; 0 trains on the CPU."""
    processes_per_node: int | None = None
    """Processes on each node; by default one per GPU, or one."""
    time: str | None = None
    """Time limit, as in `12:00:00` or `1-00:00:00`; by default the partition's."""
    name: str = "hfscale"
    """Name of the job."""
    accelerate_config: str | None = None
    """An `accelerate launch` settings file, as for ZeRO; numbers of machines and processes come from the job."""
    tasks: dict[str, list[str]] | None = None
    """An array: more words for each run, by the name of its folder."""
    at_once: int | None = None
    """How many tasks of the array may run at the same time."""

    def __post_init__(self) -> None:
        require(self.nodes >= 1, f"--nodes must be at least 1, got {self.nodes}")
        require(self.gpus_per_node >= 0, f"--gpus-per-node must be at least 0, got {self.gpus_per_node}")
        processes = self.processes_per_node
        require(processes is None or processes >= 1, f"--processes-per-node must be at least 1, got {processes}")
        require(
            processes is None or not self.gpus_per_node or processes <= self.gpus_per_node,
            f"--processes-per-node {processes} is more than --gpus-per-node {self.gpus_per_node}",
        )
        require(
            self.time is None or _TIME.fullmatch(self.time) is not None,
            f"--time {self.time} is no time limit; write HOURS:MINUTES:SECONDS or DAYS-HOURS:MINUTES:SECONDS",
        )
        require(self.at_once is None or self.tasks is not None, "--at-once has no effect without --vary")
        for text in (self.run_folder, self.name):
            require("\n" not in text and '"' not in text, f"{text!r}: Slurm takes no line break or double quote there")

    @property
    def processes(self) -> int:
        """Per node."""
        return self.processes_per_node or max(1, self.gpus_per_node)

    def folder(self, task: str | None) -> str:
        """The run folder of one task, or of a job that is no array."""
        return self.run_folder if task is None else f"{self.run_folder}/{task}"
