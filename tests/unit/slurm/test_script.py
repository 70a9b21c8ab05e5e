"""The batch script: samples that are checked in, and arguments of any kind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hfscale.cli import main
from hfscale.schemas.slurm import ClusterSettings, JobSettings
from hfscale.slurm.script import render
from tests.support.commands import ROOT

CLUSTER = ["--cluster", "recipes/slurm/cluster.yaml"]
# `hfscale slurm render WORDS > recipes/slurm/NAME` writes a sample anew.
SAMPLES = {
    "finetune_bert_on_cpus.sh": ["recipes/finetune_bert.py", "--train.output_dir", "runs/tickets", "--nodes", "2"],
    "pretrain_gpt.sh": [
        *("recipes/pretrain_gpt.py", "--config", "recipes/configs/pretrain_gpt/gpt2_small.yaml"),
        *("--train.output_dir", "runs/gpt", "--nodes", "4", "--gpus-per-node", "8", "--time", "12:00:00", *CLUSTER),
    ],
    "finetune_bert_seeds.sh": [
        *("recipes/finetune_bert.py", "--train.output_dir", "runs/seeds", "--gpus-per-node", "1"),
        *("--vary", "train.seed=0,1,2,3", "--at-once", "2", *CLUSTER),
    ],
}
AWKWARD = ["a b", "it's", 'say "x"', "$HOME", "`id`", "a\\b", "*", "ends in \\", "", "first\nsecond", "%j", "#"]


@pytest.mark.parametrize("name", SAMPLES)
def test_samples(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    main(["slurm", "render", *SAMPLES[name]])
    script = capsys.readouterr().out
    assert script == (ROOT / "recipes" / "slurm" / name).read_text()
    assert str(ROOT) not in script
    lines = script.splitlines()
    directives = [number for number, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert directives and all(lines[number - 1].startswith("# ") for number in directives)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="no shellcheck: apt-get install shellcheck")
@pytest.mark.parametrize("name", SAMPLES)
def test_shellcheck(name: str) -> None:
    done = subprocess.run(["shellcheck", ROOT / "recipes" / "slurm" / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("tasks", [None, {"it's $1": ["--x", "$y z"]}])
def test_arguments_arrive_as_they_were(tmp_path: Path, tasks: dict[str, list[str]] | None) -> None:
    """The script runs, with stand-ins for Slurm's commands that hand on what they are given."""
    run = tmp_path / "run $x 'y' %j"
    stand_ins = {
        "srun": 'while [ "$1" != bash ]; do shift; done; exec env SLURM_NODEID=0 "$@"',
        "scontrol": "echo node1",
        "accelerate": 'printf "%s\\0" "$A" "$B" "$C" "$D" "$@" > "$GIVEN"; printf "0\\n" > "$HFSCALE_ENDED/0"',
    }
    for name, text in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    cluster = ClusterSettings(variables=["A=$HOME/x", "B=~/y", "C=$(id) `id` \\\" '", "D="])
    script = render(cluster, JobSettings(command=["recipe.py", *AWKWARD], run_folder=str(run), tasks=tasks))
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "GIVEN": str(tmp_path / "given"), "HOME": "/h o"}
    environment |= {
        "SLURM_JOB_ID": "8",
        "SLURM_ARRAY_JOB_ID": "7",
        "SLURM_ARRAY_TASK_ID": "0",
        "SLURM_JOB_NODELIST": "node1",
    }
    done = subprocess.run(["bash"], input=script, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    given = (tmp_path / "given").read_text().split("\0")[:-1]
    assert given[:4] == ["/h o/x", "/h o/y", "$(id) `id` \\\" '", ""]
    more = ["--x", "$y z", "--train.output_dir", f"{run}/it's $1"] if tasks else []
    assert given[given.index("recipe.py") + 1 :] == [*AWKWARD, *more]
    assert ((run / "it's $1" if tasks else run) / "slurm" / "ended" / ("7_0.0" if tasks else "8.0") / "0").is_file()


@pytest.mark.parametrize(
    ("said", "launcher", "expected"),
    [
        (["0"], 0, 0),
        (["75"], 1, 75),
        ([""], 1, 1),
        (["1"], 1, 1),
        (["3", "75"], 1, 3),
        (["75", "lost"], 1, 75),
        (["lost", "lost"], 1, 1),
        (["75"], 1, 1),
        ([], 1, 1),
    ],
)
def test_how_a_job_ends(tmp_path: Path, said: list[str], launcher: int, expected: int) -> None:
    """75 only where every process answered and none failed; a process that was killed says nothing."""
    processes = 2 if (said, expected) == (["75"], 1) else max(1, len(said))
    answers = "".join(f'echo {word} > "$HFSCALE_ENDED/{rank}"; ' for rank, word in enumerate(said))
    stand_ins = {
        "srun": 'while [ "$1" != bash ]; do shift; done; exec env SLURM_NODEID=0 "$@"',
        "scontrol": '[ "$1" = show ] && echo node1 || { echo "$@" > requeued; exit 1; }',
        "squeue": "echo RUNNING",
        "accelerate": f"{answers}exit {launcher}",
    }
    for name, text in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    job = JobSettings(command=["recipe.py"], run_folder="run", processes_per_node=processes)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node1"}
    script = render(ClusterSettings(), job)
    done = subprocess.run(["bash"], input=script, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == expected, done.stderr
    assert (tmp_path / "requeued").exists() == (expected == 75)


def test_a_cancelled_job_stays_cancelled(tmp_path: Path) -> None:
    """Also where it was told to save before."""
    stand_ins = {
        "srun": 'while [ "$1" != bash ]; do shift; done; exec env SLURM_NODEID=0 "$@"',
        "scontrol": '[ "$1" = show ] && echo node1 || { echo "$@" > requeued; exit 1; }',
        "squeue": "echo COMPLETING",
        "scancel": "true",
        "accelerate": 'kill -USR1 "$SCRIPT"; sleep 1; echo 75 > "$HFSCALE_ENDED/0"; exit 1',
    }
    for name, text in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node1"}
    script = "export SCRIPT=$$\n" + render(ClusterSettings(), JobSettings(command=["recipe.py"], run_folder="run"))
    done = subprocess.run(["bash"], input=script, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 75, done.stderr
    assert not (tmp_path / "requeued").exists()


def test_a_recipe_that_is_not_told_the_truth(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    for words, expected in [
        (["recipes/finetune_bert.py", "--optim.lrr", "1"], "did you mean"),
        (["recipes/nothing.py"], "no such recipe: recipes/nothing.py"),
        (["recipes/finetune_bert.py", "--nodes", "0"], "--nodes must be at least 1, got 0"),
        (["recipes/finetune_bert.py", "--time", "soon"], "--time soon is no time limit"),
        (["recipes/finetune_bert.py", "--vary", "seed"], "write KEY=A,B"),
        (["recipes/finetune_bert.py", "--vary", "train.sed=1,2"], "did you mean train.seed"),
        (["recipes/finetune_bert.py", "--vary", "train.output_dir=a,b"], "train.output_dir is each run's own"),
        (["recipes/finetune_bert.py", "--vary", "data.train=a/b,a-b"], "two runs would have the folder train-a-b"),
        (["recipes/finetune_bert.py", "--vary", "x=1", "--vary", "x=2"], "x is given twice"),
        (["recipes/finetune_bert.py", "--then", "recipes/finetune_bert.py"], "give each its own"),
    ]:
        with pytest.raises(SystemExit) as end:
            main(["slurm", "render", *words])
        assert end.value.code == 2
        said = capsys.readouterr().err
        assert expected in said and said.count("\n") == 1, said


def test_without_slurm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SystemExit):
        main(["slurm", "submit", "recipes/finetune_bert.py"])
    assert "error: no Slurm on this machine" in capsys.readouterr().err


def test_ended_says_why(tmp_path: Path) -> None:
    """Each process leaves its exit status and the reason."""
    text = "from hfscale.errors import *\nwith one_line():\n    {}"
    for rank, line, expected in [
        ("0", "pass", "0"),
        ("1", "raise DataError('no  rows')", "2\nno rows"),
        ("2", "raise Interrupted('stopped')", "75\nstopped"),
        ("3", "1 / 0", "1\nZeroDivisionError: division by zero"),
        ("4", "raise RuntimeError('Connection closed by peer')", "lost\nConnection closed by peer"),
        ("5", "sys.exit(7)", "7"),
        ("6", "raise ValueError('\\udcff \\u00e9')", "1\nValueError: \\udcff é"),
    ]:
        environment = {**os.environ, "HFSCALE_ENDED": str(tmp_path), "RANK": rank}
        subprocess.run([sys.executable, "-c", text.format(line)], env=environment, capture_output=True, cwd=ROOT)
        assert (tmp_path / rank).read_text().strip() == expected, json.dumps(line)
