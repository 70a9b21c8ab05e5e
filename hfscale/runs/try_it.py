"""Commands that try the model of a run, ready for a shell."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

_EXAMPLE_LENGTH = 100  # characters
_EXAMPLE_WORDS = 4


def predict_commands(path: Path, examples: Iterable[Any]) -> list[str]:
    """How to try a text classifier on one of the `examples` (see `hfscale.data.examples`): by our command, and by
    transformers, which has no pipeline for question answering."""
    examples = list(itertools.islice(examples, 100))
    texts = _handy_texts(examples)
    trust = " --trust_remote_code" if _trusted_code(path) else ""
    ours = f"hfscale predict {shlex.quote(str(path))}{trust} --text {' '.join(map(shlex.quote, texts))}"
    if isinstance(examples[0]["label"], dict) or (path / "model" / "adapter_config.json").is_file():
        return [ours]  # transformers' pipeline takes neither questions nor a head of an adapter
    given = json.dumps(texts[0] if len(texts) == 1 else {"text": texts[0], "text_pair": texts[1]}, ensure_ascii=False)
    task = "token-classification" if "words" in examples[0] else "text-classification"
    return [ours, pipeline_command(task, path, given)]


def pipeline_command(task: str, path: Path, given: str, folder: str = "model") -> str:
    """A line for the shell that runs transformers' pipeline on `given`, a Python expression; `folder` is where in the
    run the model is."""
    model = json.dumps(str(path / folder), ensure_ascii=False)
    brings_code = "auto_map" in json.loads((path / "model" / "config.json").read_text(encoding="utf-8"))
    options = pipeline_options(task) + (", trust_remote_code=True" if brings_code else "")
    code = f'from transformers import pipeline; print(pipeline("{task}", {model}{options})({given}))'
    return f"python -c {shlex.quote(code)}"


def chat_command(path: Path, conversations: Iterable[Any], system: str | None = None) -> str:
    """A line for the shell that asks the model the first question of `conversations` (see
    `hfscale.data.conversations`), behind the `system` message that it was trained with; an adapter has to be merged
    before. What can't be merged is a trained prompt, which its card tells how to ask."""
    messages = json.loads(next(iter(conversations))["text"])
    asked = messages[: [message["role"] for message in messages].index("user") + 1]
    if system and asked[0]["role"] != "system":
        asked = [{"role": "system", "content": system}, *asked]
    given = json.dumps(asked, ensure_ascii=False)
    adapter = path / "model" / "adapter_config.json"
    if not adapter.is_file():
        return pipeline_command("text-generation", path, given)
    if json.loads(adapter.read_text(encoding="utf-8"))["peft_type"] == "PROMPT_TUNING":
        return f"with the lines under Use in {path}/model/README.md"
    merged = pipeline_command("text-generation", path, given, folder="model-merged")
    return f"hfscale export {shlex.quote(str(path))} --merge && {merged}"


def write_command(path: Path, pairs: Iterable[Any]) -> str:
    """A line for the shell that has an encoder-decoder write what follows from the first handy text of `pairs` (see
    `hfscale.data.text_pairs`); it puts the run's prefix before it by itself."""
    texts = _handy_texts({"text": pair["text"], "label": None} for pair in itertools.islice(pairs, 100))
    trust = " --trust_remote_code" if _trusted_code(path) else ""
    return f"hfscale predict {shlex.quote(str(path))}{trust} --text {shlex.quote(texts[0])}"


def pipeline_options(task: str) -> str:
    """More arguments of transformers' pipeline: of each word only the first token was trained to carry its tag; and by
    default it would write 256 tokens, for which a small model has no positions."""
    options = {"token-classification": ', aggregation_strategy="first"', "text-generation": ", max_new_tokens=24"}
    return options.get(task, "")


def _trusted_code(path: Path) -> bool:
    """Whether the run was told to trust the code that came with its model; a prediction has to be told again."""
    import yaml

    config = path / "config.yaml"
    settings = yaml.safe_load(config.read_text(encoding="utf-8")) if config.is_file() else None
    return bool(((settings or {}).get("model") or {}).get("trust_remote_code"))


def _handy_texts(examples: Iterable[Any]) -> list[str]:
    """The first short text, or pair, that a shell takes as it is; else the first one, cut."""
    first: list[str] = []
    for example in examples:
        texts = [example[name] for name in ("text", "text_pair") if name in example] or [" ".join(example["words"])]
        if isinstance(example["label"], dict):
            texts[1] = _around_answer(texts[1], example["label"]["answer_start"])
        texts = [text.strip() for text in texts]
        handy = all(len(text) <= _EXAMPLE_LENGTH for text in texts) and len(" ".join(texts).split()) >= _EXAMPLE_WORDS
        if handy and all(not set(text) & set("'\"\\`$!") for text in texts):
            return texts
        first = first or [text[:_EXAMPLE_LENGTH] for text in texts]
    return first


def _around_answer(context: str, starts: Sequence[int]) -> str:
    """A short part of a context, from a word before the answer on."""
    first = max(0, (starts[0] if starts else 0) - _EXAMPLE_LENGTH // 2)
    first += context[first:].find(" ") + 1 if first else 0
    return context[first : first + _EXAMPLE_LENGTH]
