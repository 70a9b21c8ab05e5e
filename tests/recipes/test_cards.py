"""The lines of the recipes' cards, run as a stranger would: in a fresh process, elsewhere, without hfscale."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, constants

from hfscale.hub import dataset_card, named_card
from tests.support.chat import questions, write_json, write_tiny_gpt
from tests.support.commands import ROOT, run
from tests.support.language import sentences, write_lines
from tests.support.pictures import bars, write_folder
from tests.support.tiny import BLAME, PRAISE, reviews, write_csv, write_tiny_bert
from tests.support.warm import warm_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # ten short runs come first
HUB_SERVER = ROOT.parent / "shared" / "tools" / "hub_server.py"
HAS_PEFT = importlib.util.find_spec("peft") is not None
BERT = "--baselines false --model.name bert --data.train"
TINY_RNN = "--baselines false --model.embedding_size 16 --model.hidden_size 16"
CHAT = "--model.name gpt --data.train chat.json --data.template plain --data.max_length 64"
TEXT = "--data.train lines.txt --data.documents line --data.max_length 32"
CARDS = {
    "classes": ("finetune_bert", f"{BERT} rows.csv", r"\[\{'label': '(positive|negative)', 'score': 0\.\d+\}\]"),
    "words": ("finetune_bert", f"{BERT} words.jsonl --task token_classification", r"\[.*\]"),
    "answers": ("finetune_bert", f"{BERT} answers.jsonl --task question_answering", r".*"),
    "words_lora": ("finetune_bert", f"{BERT} words.jsonl --task token_classification --lora.r 4", r"\[CLS\] [IBO].*"),
    "rnn": ("train_rnn", f"--data.train rows.csv {TINY_RNN}", r"\[\{'label': '(positive|negative)'.*"),
    "cnn": ("train_cnn", "--baselines false --data.train images", r"\[\{'label': '.*"),
    "chat": ("finetune_gpt", CHAT, ".*"),
    "chat_lora": ("finetune_gpt", f"{CHAT} --lora.r 4", ".*"),
    "masked": ("pretrain_bert", TEXT, r"\[\{'score'.*"),
    "text": ("pretrain_gpt", TEXT, r"\[\{'generated_text': .The.*"),
}  # fmt: skip
"""Name -> (recipe, its flags, what the lines print)."""
EACH = """
import contextlib, io, json, sys
sys.modules["hfscale"] = None  # importing it fails from now on
for name, code in json.load(open(sys.argv[1])).items():
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code, {})
    print(json.dumps([name, out.getvalue().strip()]), flush=True)
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run folder of each card."""
    folder = tmp_path_factory.mktemp("someone")
    rows = reviews(60)
    write_tiny_bert(folder / "bert")
    write_tiny_gpt(folder / "gpt")
    write_csv(folder / "rows.csv", rows)
    write_json(folder / "chat.json", questions() * 4)
    write_lines(folder / "lines.txt", sentences(130))
    write_folder(folder / "images", *bars(60))
    texts = [row["text"] for row in rows]
    first = [next(word for word in text.split() if word in PRAISE + BLAME) for text in texts]
    tagged = [
        {"tokens": text.split(), "tags": ["B-X" if w in PRAISE else "O" for w in text.split()]} for text in texts
    ]
    asked = [
        {"question": "what", "context": text, "answers": {"text": [word], "answer_start": [text.index(word)]}}
        for text, word in zip(texts, first, strict=True)
    ]
    for name, content in (("words", tagged), ("answers", asked)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    for name, (recipe, flags, _) in CARDS.items():
        if "lora" in name and not HAS_PEFT:
            continue
        words = [str(folder / word) if (folder / word).exists() else word for word in flags.split()]
        steps = ["--train.max_steps", 3, "--train.global_batch_size", 8, "--train.output_dir", folder / "runs" / name]
        done = warm_run(ROOT / "recipes" / f"{recipe}.py", *words, *steps)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def cards(runs: Path) -> dict[str, str]:
    return {path.name: (path / "model" / "README.md").read_text() for path in sorted((runs / "runs").iterdir())}


def test_their_lines_run_without_hfscale(runs: Path, tmp_path: Path) -> None:
    shutil.copy(next((runs / "images").rglob("*.png")), tmp_path / "image.png")
    codes = {}
    for name, card in cards(runs).items():
        shutil.copytree(runs / "runs" / name / "model", tmp_path / name)
        code = "\n".join(re.findall(r"```python\n(.*?)```", named_card(card, f"./{name}"), re.DOTALL))
        base = "gpt" if name == "chat_lora" else "bert"
        codes[name] = code.replace("PATH_OF_BASE", str(runs / base))
    (tmp_path / "codes.json").write_text(json.dumps(codes))
    finished = run("-c", EACH, tmp_path / "codes.json", cwd=tmp_path, env={"PYTHONPATH": ""})
    said = dict(json.loads(line) for line in finished.stdout.splitlines() if line.startswith("["))
    assert finished.returncode == 0 and said.keys() == codes.keys(), finished.stderr
    for name, printed in said.items():
        assert re.fullmatch(CARDS[name][2], printed, re.DOTALL), (name, printed)


def test_they_name_nothing_of_this_machine(runs: Path) -> None:
    for name, card in cards(runs).items():
        assert runs.name not in card and str(Path.home()) not in card, name
        read = ModelCard(card)
        assert read.content.rstrip() == card.rstrip(), name
        assert read.data.to_dict()["model-index"], name


@pytest.mark.skipif(not HUB_SERVER.is_file(), reason="needs ../shared/tools/hub_server.py")
def test_they_pass_the_validation_of_a_hub(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp")
    spec: Any = importlib.util.spec_from_file_location("hub_server", HUB_SERVER)
    server = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "hub_server", server)
    spec.loader.exec_module(server)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with server.HubServer(tmp_path, {}) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        for card in cards(runs).values():
            ModelCard(card).validate()
        ModelCard(dataset_card(runs / "rows.csv")).validate("dataset")
        monkeypatch.setattr(ModelCard, "__str__", lambda _: "---\ntags: [\n---\n")
        with pytest.raises(ValueError):
            ModelCard("").validate()
