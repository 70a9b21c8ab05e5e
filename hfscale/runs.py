"""The folder of one run.

RUN/
|-- config.yaml            the resolved settings; `--config RUN/config.yaml` runs the same again
|-- environment.json       versions and hardware
|-- metrics.jsonl          one object per logged step
|-- checkpoints/best/      the best weights so far
|-- model/                 the final model: a plain Hugging Face folder
|-- learning_curve.png
`-- result.json            written last: where it exists, the run is complete
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import shlex
import shutil
import tempfile
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfscale import console
from hfscale.config import save_config
from hfscale.errors import RunFolderError
from hfscale.files import write_json

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from hfscale.training.loop import FitResult


_EXAMPLE_LENGTH = 100  # characters
_PROBE = ".hfscale-"  # of other processes of the same run, too


def check_free(path: str) -> Path:
    """Refuse a folder that holds anything or can't be written, before any work is done. Leaves nothing behind.

    Raises:
        RunFolderError: saying what is in the way.
    """
    folder = Path(path)
    if folder.is_dir() and any(not path.name.startswith(_PROBE) for path in folder.iterdir()):
        what = _what_it_holds(folder)
        raise RunFolderError(f"{path} {what}; choose another --train.output_dir, or remove it first")
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{path} is a file; choose another --train.output_dir")
    parent = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=parent, prefix=_PROBE) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
    except OSError as error:
        raise RunFolderError(
            f"can't write run folder {path}: {error.strerror or error}; choose another --train.output_dir"
        ) from None
    return folder


def _what_it_holds(folder: Path) -> str:
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        name, value = next(iter(result["metrics"].items()))
        return f"holds a finished run ({name} {value:.3f} after {result['steps']} steps)"
    except (OSError, ValueError, KeyError, StopIteration, AttributeError, TypeError):
        return "holds a run that has not finished" if (folder / "config.yaml").exists() else "is not empty"


@contextlib.contextmanager
def open_run(path: Path, config: Any, environment: dict[str, Any], accelerator: Accelerator) -> Generator[Path]:
    """Make the run folder with its settings; it vanishes again if the run fails before its first logged step.

    Raises:
        RunFolderError: where another run took the folder since `check_free`.
    """
    if accelerator.is_main_process:
        check_free(str(path))
        path.mkdir(parents=True, exist_ok=True)
    try:
        if accelerator.is_main_process:
            precision = "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision
            train = dataclasses.replace(config.train, precision=precision)  # the launcher may have chosen it
            save_config(dataclasses.replace(config, train=train), path / "config.yaml")
            write_json(path / "environment.json", environment)
        accelerator.wait_for_everyone()
        yield path
    except BaseException:
        if accelerator.is_main_process and not (path / "metrics.jsonl").exists():
            shutil.rmtree(path, ignore_errors=True)
        raise


def result(
    accelerator: Accelerator, model: torch.nn.Module, fitted: FitResult, metrics: dict[str, float]
) -> dict[str, Any]:
    """What every recipe's `result.json` holds; a recipe may add to it.

    `metrics` are those of the final model on held-out rows, `tokens_per_second` counts no padding,
    `peak_memory_bytes` is the largest of any process.
    """
    import torch

    from hfscale.training.throughput import peak_memory_bytes

    peak = torch.tensor([peak_memory_bytes(accelerator.device)], device=accelerator.device)
    parameters = list(model.parameters())
    return {
        "metrics": metrics,
        **fitted._asdict(),
        "peak_memory_bytes": int(accelerator.gather(peak).max()),  # type: ignore[union-attr]
        "num_parameters": sum(parameter.numel() for parameter in parameters),
        "num_trained_parameters": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        "num_processes": accelerator.num_processes,
        "resumed_from": None,
    }


def packing_result(train: Any, held_out: Any) -> dict[str, Any]:
    """What a pretraining recipe adds to its result: numbers of sequences, and the share of real tokens in them."""
    parts = {"train": train, **({"validation": held_out} if held_out else {})}
    return {
        "num_examples": {name: len(part) for name, part in parts.items()},
        "num_tokens": {name: part.num_tokens for name, part in parts.items()},
        "fill": train.fill,
        "held_out": "validation" if held_out else None,
    }


def write_result(path: Path, values: dict[str, Any]) -> None:
    """Write `result.json`, the mark of a run that has its model and its metrics. What is not finite becomes null."""
    write_json(path / "result.json", _finite(values))


def say_result(path: Path, values: dict[str, Any], try_it: Sequence[str] = ()) -> None:
    """Say what came out, and the commands that try the model."""
    rows = {"this model": values["metrics"], **values.get("baselines", {})}
    width = max(len(name) for name in rows)
    for name, metrics in rows.items():
        shown = "  ".join(f"{metric} {value:.4f}" for metric, value in metrics.items())
        console.say(f"{'held out' if name == 'this model' else 'baseline':<11}{name:<{width}}  {shown}")
    _say_if_useless(values["metrics"], values.get("baselines", {}))
    tokens, fraction = values["tokens_per_second"], values["matmul_peak_fraction"]
    speed = [f"{values['samples_per_second']:,.1f} samples/s"]
    speed += [f"{tokens:,.0f} tokens/s"] if tokens is not None else []
    speed += [f"{fraction:.0%} of the matrix-multiply peak"] if fraction is not None else []
    speed += [f"{values['train_seconds']:.0f} s of training", f"{values['peak_memory_bytes'] / 2**30:.2f} GiB"]
    console.say(f"speed      {', '.join(speed)}")
    console.say(f"saved      {path}/model, {path}/result.json, {path}/learning_curve.png")
    for number, line in enumerate(try_it):
        console.say(f"{'try it' if not number else '':<11}{line}")


def _say_if_useless(metrics: dict[str, float], baselines: dict[str, dict[str, float]]) -> None:
    """A run that was not worth its cost should not look like a success."""
    from hfscale.training.best import LOWER_IS_BETTER

    main = next(iter(metrics), "")
    sign = -1 if main in LOWER_IS_BETTER else 1
    better = [name for name, values in baselines.items() if sign * values.get(main, math.nan) >= sign * metrics[main]]
    if better:
        console.say(
            f"attention  by {main} this model is no better than {', '.join(better)}: train it longer, or on more"
        )


def predict_commands(path: Path, examples: Iterable[Any]) -> list[str]:
    """How to try a text classifier on one of the `examples` (see `hfscale.data.examples`): by our command, and by
    transformers, which has no pipeline for question answering."""
    examples = list(itertools.islice(examples, 100))
    texts = _handy_texts(examples)
    trust = " --trust_remote_code" if _trusted_code(path) else ""
    ours = f"hfscale predict {shlex.quote(str(path))}{trust} --text {' '.join(map(shlex.quote, texts))}"
    if isinstance(examples[0]["label"], dict):
        return [ours]
    given = json.dumps(texts[0] if len(texts) == 1 else {"text": texts[0], "text_pair": texts[1]}, ensure_ascii=False)
    task = "token-classification" if "words" in examples[0] else "text-classification"
    return [ours, pipeline_command(task, path, given)]


def pipeline_command(task: str, path: Path, given: str) -> str:
    """A line for the shell that runs transformers' pipeline on `given`, a Python expression."""
    model = json.dumps(str(path / "model"), ensure_ascii=False)
    brings_code = "auto_map" in json.loads((path / "model" / "config.json").read_text(encoding="utf-8"))
    options = pipeline_options(task) + (", trust_remote_code=True" if brings_code else "")
    code = f'from transformers import pipeline; print(pipeline("{task}", {model}{options})({given}))'
    return f"python -c {shlex.quote(code)}"


def pipeline_options(task: str) -> str:
    """More arguments of transformers' pipeline: of each word only the first token was trained to carry its tag."""
    return ', aggregation_strategy="first"' if task == "token-classification" else ""


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
        if all(len(text) <= _EXAMPLE_LENGTH and not set(text) & set("'\"\\`$!") for text in texts):
            return texts
        first = first or [text[:_EXAMPLE_LENGTH] for text in texts]
    return first


def _around_answer(context: str, starts: Sequence[int]) -> str:
    """A short part of a context, from a word before the answer on."""
    first = max(0, (starts[0] if starts else 0) - _EXAMPLE_LENGTH // 2)
    first += context[first:].find(" ") + 1 if first else 0
    return context[first : first + _EXAMPLE_LENGTH]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
