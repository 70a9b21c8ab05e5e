"""What `hfscale` says of a wrong command line: one line with the way out."""

from __future__ import annotations

import pytest

from hfscale.cli import main


@pytest.mark.parametrize(
    "words, line",
    [
        ("pusch", "no command pusch; did you mean push?"),
        ("slurm submt", "no action submt; did you mean submit?"),
        ("xyz", "no command xyz; there are plan, predict, "),
        ("", "command is missing; hfscale --help says more"),
        ("predict --text good bad runs/a", "RUN is missing; it comes first, as in hfscale predict RUN ..."),
        ("prune runs/a", "--sparsity is missing; hfscale prune --help"),
        ("push --repos me/mine", "unexpected argument --repos; did you mean --repo?"),
        ("export runs/a --examples 5 --batchsize 3", "unexpected argument --batchsize; did you mean --batch_size?"),
        ("doctor runs/a runs/b", "unexpected argument runs/b; hfscale doctor --help lists what there is"),
        ("export runs/a --bits 5", "--bits must be one of 4, 8, 16, got 5"),
        ("push runs/a --repo", "--repo needs a value"),
    ],
)
def test_a_wrong_command_line(capsys: pytest.CaptureFixture[str], words: str, line: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith(f"error: {line}") and said.count("\n") == 1


def test_help_keeps_its_examples_apart(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["push", "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "hfscale push runs/lora --repo me/my-model",
        "hfscale push runs/lora # finish what failed",
        "hfscale push --dataset mails.csv --repo me/mails",
    ]
