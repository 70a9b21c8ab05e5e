"""Settings from command lines and files, and what a wrong one is told."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from hfscale.config import parse_config, run, save_config
from hfscale.errors import SettingsError
from hfscale.schemas import DataSettings, HubSettings, OptimSettings, TrainSettings


@dataclass(frozen=True, kw_only=True)
class Extra:
    """An optional block."""

    rank: int = 8
    """Some size."""
    alpha: float | None = None
    """Some strength."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of a made-up recipe."""

    data: DataSettings = field(default_factory=lambda: DataSettings(train="builtin:tickets"))
    optim: OptimSettings = field(default_factory=lambda: OptimSettings(lr=1e-4))
    train: TrainSettings = field(default_factory=lambda: TrainSettings(output_dir="runs/x"))
    extra: Extra | None = None
    """Leave it out for none."""
    baselines: bool = True
    """A plain switch."""


@dataclass(frozen=True, kw_only=True)
class Publishing(Config):
    """One that may be published."""

    hub: HubSettings | None = None


def parse(*args: str) -> Config:
    return parse_config(Config, list(args))


def from_file(tmp_path: Path, text: str, *args: str) -> Config:
    path = tmp_path / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return parse("--config", str(path), *args)


def refusal(*args: str) -> str:
    with pytest.raises(SettingsError) as caught:
        parse(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def refusal_of_file(tmp_path: Path, text: str, *args: str) -> str:
    with pytest.raises(SettingsError) as caught:
        from_file(tmp_path, text, *args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_arguments_give_the_defaults() -> None:
    assert parse() == Config()


def test_a_file_beats_the_defaults_of_its_keys_only(tmp_path: Path) -> None:
    config = from_file(tmp_path, "optim:\n  weight_decay: 0.5\nbaselines: false\n")
    assert config.optim == OptimSettings(lr=1e-4, weight_decay=0.5)
    assert config.baselines is False


def test_the_command_line_beats_a_file_before_it(tmp_path: Path) -> None:
    config = from_file(tmp_path, "optim:\n  lr: 1.0\n  weight_decay: 0.5\n", "--optim.lr", "5")
    assert (config.optim.lr, config.optim.weight_decay) == (5.0, 0.5)


def test_the_command_line_beats_a_file_after_it(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("optim:\n  lr: 1.0\n  weight_decay: 0.5\n")
    config = parse("--optim.lr", "5", "--config", str(path))
    assert (config.optim.lr, config.optim.weight_decay) == (5.0, 0.5)


def test_a_later_file_beats_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("train: {epochs: 1, seed: 1}\n")
    (tmp_path / "b.yaml").write_text("train: {epochs: 2}\n")
    config = parse(f"--config={tmp_path}/a.yaml", "--config", f"{tmp_path}/b.yaml")
    assert (config.train.epochs, config.train.seed) == (2, 1)


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert from_file(tmp_path, "# nothing yet\n") == Config()


@pytest.mark.parametrize("number", ["1e-4", "1.0e-4", "0.0001"])
def test_numbers_in_a_file_may_have_an_exponent(tmp_path: Path, number: str) -> None:
    assert from_file(tmp_path, f"optim:\n  lr: {number}\n").optim.lr == 1e-4


@pytest.mark.parametrize("character", [",", ";", "|", ":", "-", "\t", " ", "&", "*", "#", "~"])
def test_a_text_on_the_command_line_is_taken_as_it_stands(character: str) -> None:
    assert parse("--data.delimiter", character).data.delimiter == character


@pytest.mark.parametrize("character", ["#", "~", ":"])
def test_a_quoted_text_in_a_file_is_taken_as_it_stands(tmp_path: Path, character: str) -> None:
    assert from_file(tmp_path, f'data:\n  delimiter: "{character}"\n').data.delimiter == character


def test_lists_on_the_command_line() -> None:
    config = parse("--data.text", "[first, second]", "--optim.betas", "[0.8, 0.9]")
    assert config.data.text == ["first", "second"]
    assert config.optim.betas == (0.8, 0.9)


def test_null_turns_an_optional_setting_off() -> None:
    assert parse("--optim.max_grad_norm", "null").optim.max_grad_norm is None


@pytest.mark.parametrize(
    "key, near",
    [
        ("optim.learning_rat", "optim.lr"),
        ("optim.weight_deca", "optim.weight_decay"),
        ("train.epoch", "train.epochs"),
        ("epochs", "train.epochs"),
        ("learning_rate", "optim.lr"),
        ("per_device_train_batch_size", "train.micro_batch_size"),
        ("extra.rnk", "extra.rank"),
        ("baseline", "baselines"),
    ],
)
def test_a_typo_is_told_the_near_name(tmp_path: Path, key: str, near: str) -> None:
    message = refusal(f"--{key}", "1")
    assert f"unknown key {key}" in message and f"did you mean {near}?" in message
    *blocks, last = key.split(".")
    content = f"{blocks[0]}:\n  {last}: 1\n" if blocks else f"{last}: 1\n"
    message = refusal_of_file(tmp_path, content)
    assert "settings.yaml" in message and f"unknown key {key};" in message and f"did you mean {near}?" in message


def test_a_key_near_to_nothing_is_told_its_siblings() -> None:
    assert "extra has rank, alpha" in refusal("--extra.zzzz", "1")


def test_an_optional_block_without_what_it_needs_is_told_so() -> None:
    with pytest.raises(SettingsError, match=r"^hub\.repo_id is missing, without which --hub has no effect"):
        parse_config(Publishing, ["--hub.license", "mit"])


def test_a_flag_is_not_completed() -> None:
    assert "unknown key train.output " in refusal("--train.output", "x")


@pytest.mark.parametrize(
    "args, parts",
    [
        (("--optim.lr", "fast"), ("optim.lr", "a number", "fast")),
        (("--train.max_steps", "1.5"), ("train.max_steps", "a whole number or null", "1.5")),
        (("--baselines", "maybe"), ("baselines", "true or false", "maybe")),
        (("--optim.name", "adam"), ("optim.name", "adamw, adamw8bit, sgd", "adam")),
        (("--train.trackers", "[mlflow]"), ("train.trackers", "tensorboard, trackio, wandb", "mlflow")),
        (("--extra.rank", "big"), ("extra", "big")),
        (("--optim.lr",), ("--optim.lr needs a value",)),
        (("train.csv",), ("unexpected argument train.csv", "in quotes where the value has several parts")),
        (("optim.lr=1",), ("unexpected argument optim.lr=1; did you mean --optim.lr?",)),
        (("-optim.lr", "1"), ("unexpected argument -optim.lr; did you mean --optim.lr?",)),
        (("\u2014optim.lr", "1"), ("did you mean --optim.lr?",)),
        (("--extra", "{rank:", "8}"), ("extra must be a block", "got {rank:; give", "one by one, as in --extra.rank")),
        (("--optim", "{lr: 1"), ("optim must be a block of settings; give", "--optim.name")),
        (("--data.columns", "[a,", "b]"), ("got [a,; write it in quotes: --data.columns '[a, ...]'",)),
        (("--train.trackers", "wandb"), ("write it in quotes: --train.trackers '[wandb]'",)),
        (("--config", "nowhere.yaml"), ("nowhere.yaml", "No such file")),
        (("--config",), ("--config needs a value",)),
    ],
)
def test_a_wrong_command_line_is_named(args: tuple[str, ...], parts: tuple[str, ...]) -> None:
    message = refusal(*args)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    "content, parts",
    [
        ("optim:\n  lr: fast\n", ("optim.lr must be a number", "fast")),
        ("data:\n  label: 1\n", ("data.label must be text or a list of text", "1")),
        ("extra:\n  rank: big\n", ("extra", "big")),
        ("optim: 3\n", ("optim must be a block",)),
        ("optim:\n", ("optim must be a block",)),
        ("optim:\n  lr: 1\n  lr: 2\n", ("line 3", "lr", "twice")),
        ("train:\n  seed: 1\noptim:\n  lr: 1\ntrain:\n  seed: 2\n", ("line 5", "train", "twice")),
        ("optim: [\n", ("line 2", "not valid YAML")),
        ("- a\n- b\n", ("key: value", "list")),
        ("just words\n", ("key: value", "str")),
        ("{{ lr }}: 1\n", ()),
        ("[a, b]: 1\n", ()),
        ("optim: \x01\n", ("not valid YAML",)),
        ("1: 2\n", ("unknown key 1",)),
    ],
)
def test_a_wrong_file_is_named_with_the_key(tmp_path: Path, content: str, parts: tuple[str, ...]) -> None:
    message = refusal_of_file(tmp_path, content)
    for part in ("settings.yaml", *parts):
        assert part in message


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("train:\n  output_dir: caf\xe9\n".encode("latin-1"))
    assert "latin.yaml is not UTF-8" in refusal("--config", f"{tmp_path}/latin.yaml")


def test_an_optional_block_is_there_when_one_of_its_keys_is(tmp_path: Path) -> None:
    assert parse("--extra.rank", "4").extra == Extra(rank=4)
    assert from_file(tmp_path, "extra:\n  alpha: 2\n", "--extra.rank", "4").extra == Extra(rank=4, alpha=2.0)
    assert from_file(tmp_path, "extra: null\n").extra is None


def test_a_check_of_a_block_reaches_the_user(tmp_path: Path) -> None:
    expected = "--train.epochs and --train.max_steps were both given; choose one (`null` takes back a file's)"
    assert refusal("--train.epochs", "1", "--train.max_steps", "2") == expected
    assert refusal_of_file(tmp_path, "train:\n  epochs: 1\n", "--train.max_steps", "2") == expected


def test_saved_settings_run_the_same_again(tmp_path: Path) -> None:
    config = Config(
        data=DataSettings(train="träin.csv", text=["first", "second"], delimiter="|", label="no"),
        optim=OptimSettings(lr=1e-7, betas=(0.8, 0.95), max_grad_norm=None),
        train=TrainSettings(output_dir="123", trackers=["tensorboard"], epochs=0.5),
        extra=Extra(alpha=2.0),
    )
    save_config(config, tmp_path / "config.yaml")
    assert parse("--config", f"{tmp_path}/config.yaml") == config


def test_print_config_prints_settings_that_run_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ("--optim.lr", "3e-5", "--extra.rank", "4", "--data.text", "[a, b]")
    with pytest.raises(SystemExit) as ended:
        parse(*args, "--print_config")
    assert ended.value.code == 0
    assert from_file(tmp_path, capsys.readouterr().out) == parse(*args)


def test_help_shows_the_text_under_each_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_config(Publishing, ["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "Peak learning rate." in shown and "A plain switch." in shown
    assert "--extra EXTRA Leave it out for none. (type: Extra | null, default: null)" in shown
    assert "--hub HUB Push the model to the Hugging Face Hub when" in shown
    assert "required" not in shown  # data.train and train.output_dir have defaults here


def test_run_ends_a_mistake_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["recipe.py", "--optim.lrr", "1"])
    seen: list[Config] = []
    with pytest.raises(SystemExit) as ended:
        run(seen.append, Config)
    assert ended.value.code == 2 and not seen
    assert capsys.readouterr().err == "error: unknown key optim.lrr on the command line; did you mean optim.lr?\n"


def test_run_hands_over_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["recipe.py", "--train.seed", "7"])
    seen: list[Config] = []
    run(seen.append, Config)
    assert asdict(seen[0])["train"]["seed"] == 7


def test_settings_need_no_torch() -> None:
    code = "import hfscale.config, hfscale.schemas, hfscale.data, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
