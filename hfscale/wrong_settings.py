"""What a wrong setting is told: one line that names the key, where it stands, and the nearest right name."""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

# Names that people know from elsewhere -> ours; only for "did you mean".
_KNOWN_ELSEWHERE = {
    "learning_rate": "optim.lr",
    "optimizer": "optim.name",
    "lr_scheduler_type": "optim.schedule",
    "batch_size": "train.global_batch_size",
    "per_device_train_batch_size": "train.micro_batch_size",
    "per_device_eval_batch_size": "train.eval_batch_size",
    "gradient_accumulation_steps": "train.micro_batch_size",
    "num_train_epochs": "train.epochs",
    "logging_steps": "train.log_steps",
    "model_name_or_path": "model.name",
    "train_file": "data.train",
    "validation_file": "data.validation",
    "test_file": "data.test",
    "dataset_name": "data.train",
    "max_seq_length": "data.max_length",
    "report_to": "train.trackers",
    "mixed_precision": "train.precision",
    "bf16": "train.precision",
}


def block_of(annotation: Any) -> type | None:
    """The dataclass inside `Block` or `Block | None`, else None."""
    options = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    return next((option for option in options if dataclasses.is_dataclass(option)), None)  # type: ignore[return-value]


def _is_union(annotation: Any) -> bool:
    return isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union


def fields_of(schema: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, annotation) of every setting, blocks themselves included."""
    for name, annotation in typing.get_type_hints(schema).items():
        yield prefix + name, annotation
        block = block_of(annotation)
        if block is not None:
            yield from fields_of(block, f"{prefix}{name}.")


def keys_of(content: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys of all values; no setting is itself a mapping, so that every mapping is a block."""
    for name, value in content.items():
        if isinstance(value, dict) and value:
            yield from keys_of(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def nearest(key: str, schema: type) -> str:
    """`"; did you mean optim.lr?"` for `optim.learning_rat`: by our own names first, then by names used elsewhere."""
    leaves = [name for name, annotation in fields_of(schema) if block_of(annotation) is None]
    block, _, last = key.rpartition(".")
    near = difflib.get_close_matches(key, leaves, n=1, cutoff=0.75)
    if not near:
        elsewhere = difflib.get_close_matches(last, _KNOWN_ELSEWHERE, n=1, cutoff=0.75)
        near = [_KNOWN_ELSEWHERE[name] for name in elsewhere if _KNOWN_ELSEWHERE[name] in leaves]
    if not near:
        by_last = {name.rpartition(".")[2]: name for name in leaves}
        near = [by_last[name] for name in difflib.get_close_matches(last, by_last, n=1, cutoff=0.75)]
    if near:
        return f"; did you mean {near[0]}?"
    siblings = [name.rpartition(".")[2] for name in leaves if name.startswith(block + ".")] if block else []
    return f"; {block} has {', '.join(siblings)}" if siblings else "; --help lists the settings"


def explain(message: str, schema: type, args: list[str], files: dict[str, dict[str, Any]]) -> str:
    """One line for what jsonargparse said in several."""
    if "unrecognized arguments: " in message:
        first = message.split("unrecognized arguments: ")[1].split()[0]
        if not first.startswith("--"):
            name = first.lstrip("-\u2013\u2014").partition("=")[0]  # with the dashes of a text processor, too
            quoted = "settings are given as --key value, in quotes where the value has several parts"
            way_out = f"did you mean --{name}?" if name in dict(fields_of(schema)) else quoted
            return f"unexpected argument {first}; {way_out}"
        key = first.lstrip("-").split("=")[0]
        return f"unknown key {key} on the command line{nearest(key, schema)}"
    if "expected one argument" in message:
        return f"--{message.split('--')[1].split(':')[0]} needs a value"
    unknown = re.search(r"Option '([^']+)' is not accepted|does not accept option '([^']+)'", message)
    keys = re.findall(r'Parser key "([^"]+)"', message)
    if unknown:
        key = ".".join([*keys[:1], unknown[1] or unknown[2]])
        return f"unknown key {key}{nearest(key, schema)}"
    known = dict(fields_of(schema))
    key = next((k for k in (".".join(keys), keys[0] if keys else "") if k in known), None)
    if "is required" in message or key is None:
        return " ".join(message.split())
    got = re.findall(r"(?:Got value|Given value): (.*)", message)
    nested = re.search(r"NestedArg\(key='([^']+)', val='(.*)'\)", message)  # a flag of an optional block
    value = nested[2] if nested else got[-1] if got else ""
    block = block_of(known[key])
    needed = [each.name for each in dataclasses.fields(block) if each.default is dataclasses.MISSING] if block else []
    missing = next((name for name in needed if f"{name}=None" in value), None)
    if missing:
        return f"{key}.{missing} is missing, without which --{key} has no effect; give --{key}.{missing}"
    given = any(arg.split("=")[0] == f"--{key}" for arg in args)
    where, way_out = ("", _how_to_write(key, known[key], value)) if given else (_where(key, files), "")
    return f"{where}{key} must be {_describe(known[key])}{value and f', got {value}'}{way_out}"


def _how_to_write(key: str, annotation: Any, value: str) -> str:
    """A flag that the shell leaves whole, for a block, or for a list that came in pieces or without its brackets."""
    block = block_of(annotation)
    if block:
        return f"; give its settings one by one, as in --{key}.{dataclasses.fields(block)[0].name}"  # type: ignore[arg-type]
    if "a list" not in _describe(annotation) or value.endswith("]"):
        return ""
    return f"; write it in quotes: --{key} '{f'{value} ...' if value.startswith('[') else f'[{value}'}]'"


def explain_check(message: str) -> str:
    """What a schema's own check said, without the list of types that jsonargparse tried around it."""
    return (
        message.split("Errors:\n")[1].splitlines()[0].strip().removeprefix("- ") if "Errors:\n" in message else message
    )


def _where(key: str, files: dict[str, dict[str, Any]]) -> str:
    holds = (path for path, content in files.items() if any(f"{k}.".startswith(f"{key}.") for k in keys_of(content)))
    return next((f"{path}: " for path in holds), "")


def _describe(annotation: Any) -> str:
    """A type in words: `one of adamw, sgd`, `a whole number or null`."""
    if _is_union(annotation):
        return " or ".join(_describe(option) for option in typing.get_args(annotation))
    if typing.get_origin(annotation) is Literal:
        return "one of " + ", ".join(str(option) for option in typing.get_args(annotation))
    if typing.get_origin(annotation) in (list, tuple):
        return "a list of " + " and ".join(
            _describe(option) for option in dict.fromkeys(typing.get_args(annotation)) if option is not Ellipsis
        )
    if dataclasses.is_dataclass(annotation):
        return "a block of settings"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return names.get(annotation, str(annotation))
