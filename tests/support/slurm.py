"""A real Slurm of a few nodes on one Linux machine, for tests: `with Cluster(folder, 3) as cluster`.

One process holds everything in namespaces of its own. Each node is a process name space, a network with an address and
a host name within them, so that a node can be powered off or cut off, and nothing of it is left when the outer process
ends. `python -m tests.support.slurm world FOLDER NUMBER` is that process, `... node FOLDER NAME` one node.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
_CLIENTS = ("sbatch", "squeue", "sinfo", "srun", "scontrol", "scancel")
_PROGRAMS = (*_CLIENTS, "slurmctld", "slurmd", "munged", "ip", "unshare", "nsenter")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SUBNET = "10.78.0"
_SPACES = ["--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]


def why_not() -> str | None:
    """Why there can be no cluster here; None where there can."""
    missing = [name for name in _PROGRAMS if not shutil.which(name, path=_PATH)]
    if missing:
        return f"no {', '.join(missing)}: apt-get install slurmctld slurmd slurm-client munge iproute2 util-linux"
    if os.geteuid() != 0:
        return "a Slurm of several nodes needs root here"
    tried = subprocess.run(["unshare", *_SPACES, "true"], capture_output=True, text=True)
    return f"no namespaces: {tried.stderr.strip()}" if tried.returncode else None


class Cluster:
    """Nodes node1, node2, ... with 4 CPUs each, the partitions `main` and, which `main` preempts, `low`."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self.folder, self.nodes = folder, nodes
        self._world: Any = None

    def __enter__(self) -> Self:
        _configure(self.folder, self.nodes)
        words = [sys.executable, "-m", "tests.support.slurm", "world", str(self.folder), str(self.nodes)]
        log = open(self.folder / "world.log", "w")
        self._world = subprocess.Popen(
            ["unshare", *_SPACES, *words], cwd=ROOT, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True
        )
        log.close()
        try:
            children = Path(f"/proc/{self._world.pid}/task/{self._world.pid}/children")
            while not (init := children.read_text().split()):
                time.sleep(0.01)
            (self.folder / "world.pid").write_text(init[0])
            self._wait_for_nodes()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self._world.stdin.close()  # the world ends with its standard input, also when this process is killed
        self._world.wait(20)

    @property
    def environment(self) -> dict[str, str]:
        """In which Slurm's commands, and `hfscale slurm`, find the cluster."""
        bin_folder = f"{self.folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**os.environ, "PATH": bin_folder, "SLURM_CONF": f"{self.folder}/slurm.conf", "PYTHONPATH": str(ROOT)}

    def call(self, *words: Any) -> str:
        """What a command says, run in the cluster's environment."""
        words = tuple(map(str, words))
        done = subprocess.run(words, capture_output=True, text=True, env=self.environment, cwd=ROOT)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def tell(self, *words: str) -> None:
        """`kill-node`, `cut-node`, `heal-node`, `kill-slurmd` or `start-slurmd`, and the node's name."""
        self._world.stdin.write(" ".join(words) + "\n")
        self._world.stdin.flush()

    def job(self, number: str) -> dict[str, str]:
        """What `scontrol show job` says of it."""
        words = self.call("scontrol", "--oneliner", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, number: str, *states: str, seconds: float = 150) -> dict[str, str]:
        """The job as soon as it is in one of the states."""
        end = time.monotonic() + seconds
        while (job := self.job(number))["JobState"] not in states:
            assert time.monotonic() < end, f"{job}\n{(self.folder / 'slurmctld.log').read_text()[-3000:]}"
            time.sleep(0.3)
        return job

    def processes(self, word: str) -> list[int]:
        """Of all nodes, those whose command line holds the word."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                inside = os.readlink(path.parent / "ns/uts") != os.readlink("/proc/self/ns/uts")
                if inside and word.encode() in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def _wait_for_nodes(self) -> None:
        end = time.monotonic() + 30
        while time.monotonic() < end and self._world.poll() is None:
            with contextlib.suppress(AssertionError):
                if self.call("sinfo", "-h", "-N", "-p", "main", "-o", "%T").split().count("idle") == self.nodes:
                    return
            time.sleep(0.2)
        raise RuntimeError((self.folder / "world.log").read_text()[-3000:])


def _configure(folder: Path, number: int) -> None:
    for name in ("bin", "inside", "state", "spool", "munge"):
        (folder / name).mkdir(parents=True)
    nodes = f"node[1-{number}]"
    addresses = [f"{_SUBNET}.{k} node{k}" for k in range(1, number + 1)]
    (folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", f"{_SUBNET}.254 login", *addresses, ""]))
    (folder / "munge.key").write_bytes(os.urandom(256))
    (folder / "munge.key").chmod(0o400)
    for gpu in range(2):
        (folder / f"gpu{gpu}").touch()
    (folder / "gres.conf").write_text(f"NodeName={nodes} Name=gpu File={folder}/gpu[0-1]\n")
    (folder / "slurm.conf").write_text(_CONF.format(folder=folder, nodes=nodes, login=f"{_SUBNET}.254"))
    for name in _CLIENTS:
        script = folder / "bin" / name
        script.write_text(
            f'#!/bin/sh\nexec nsenter -t "$(cat {folder}/world.pid)" -n -m -u --wd="$PWD" /usr/bin/{name} "$@"\n'
        )
        script.chmod(0o755)


_CONF = """\
ClusterName=test
SlurmctldHost=login({login})
AuthInfo=socket={folder}/munge/socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=10
MessageTimeout=5
TCPTimeout=2
KillWait=10
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName={nodes} CPUs=4 RealMemory=4000 Gres=gpu:2
PartitionName=main Nodes={nodes} Default=YES PriorityTier=10 PreemptMode=off
PartitionName=low Nodes={nodes} PriorityTier=1 PreemptMode=requeue GraceTime=10
"""


class _World:
    """Process 1 of the outer namespaces."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.environment = {"PATH": _PATH, "SLURM_CONF": f"{folder}/slurm.conf", "LANG": "C.UTF-8"}
        self.inits: dict[str, Any] = {}
        _sh("mount", "-t", "proc", "proc", "/proc")
        _sh("mount", "--bind", f"{folder}/hosts", "/etc/hosts")
        _sh("mount", "--bind", f"{folder}/inside", f"{folder}/bin")  # jobs inherit PATH, and need no way in
        socket.sethostname("login")
        _sh("ip", "link", "set", "lo", "up")
        _sh("ip", "link", "add", "bridge", "type", "bridge")
        _sh("ip", "addr", "add", f"{_SUBNET}.254/24", "dev", "bridge")
        _sh("ip", "link", "set", "bridge", "up")
        munge = [f"--{name}={folder}/munge/{name}" for name in ("socket", "pid-file", "seed-file", "log-file")]
        self.start("munged", "--foreground", "--force", f"--key-file={folder}/munge.key", *munge)
        while not (folder / "munge" / "socket").exists():
            time.sleep(0.05)
        self.start("slurmctld", "-D", "-c")
        for k in range(1, number + 1):
            self.start_node(f"node{k}", k)

    def start(self, *words: str) -> None:
        subprocess.Popen(words, stdin=subprocess.DEVNULL, env=self.environment)

    def start_node(self, name: str, k: int) -> None:
        words = ["unshare", *_SPACES, sys.executable, "-m", "tests.support.slurm", "node", str(self.folder), name]
        node = subprocess.Popen(words, stdin=subprocess.PIPE, cwd=ROOT, env=self.environment)
        while not (init := Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()):
            time.sleep(0.01)
        _sh("ip", "link", "add", f"cable{k}", "type", "veth", "peer", "name", "eth0", "netns", init[0])
        _sh("ip", "link", "set", f"cable{k}", "master", "bridge", "up")
        assert node.stdin
        node.stdin.close()  # the node waits for its cable
        self.inits[name] = int(init[0])

    def obey(self, order: str, name: str) -> None:
        cable, init = f"cable{name.removeprefix('node')}", self.inits[name]
        if order == "kill-node":
            os.kill(init, signal.SIGKILL)
        elif order in ("cut-node", "heal-node"):
            _sh("ip", "link", "set", cable, "down" if order == "cut-node" else "up")
        elif order == "kill-slurmd":
            for path in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    here = os.readlink(path / "ns/pid") == os.readlink(f"/proc/{init}/ns/pid")
                    if here and (path / "comm").read_text().strip() == "slurmd":
                        os.kill(int(path.name), signal.SIGKILL)
        elif order == "start-slurmd":
            self.start("nsenter", "-t", str(init), "-n", "-m", "-u", "-p", "slurmd", "-D", "-N", name)


def _sh(*words: str) -> None:
    subprocess.run(words, check=True)


def _node(folder: Path, name: str) -> None:
    sys.stdin.read()
    _sh("mount", "-t", "proc", "proc", "/proc")
    socket.sethostname(name)
    _sh("ip", "link", "set", "lo", "up")
    _sh("ip", "addr", "add", f"{_SUBNET}.{name.removeprefix('node')}/24", "dev", "eth0")
    _sh("ip", "link", "set", "eth0", "up")
    (folder / "spool" / name).mkdir()
    subprocess.Popen(["slurmd", "-D", "-N", name], stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    while True:  # process 1 stays, with its slurmd or without, and buries the dead
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        time.sleep(0.1)


if __name__ == "__main__":
    if sys.argv[1] == "node":
        _node(Path(sys.argv[2]), sys.argv[3])
    world = _World(Path(sys.argv[2]), int(sys.argv[3]))
    for line in sys.stdin:
        world.obey(*line.split())
