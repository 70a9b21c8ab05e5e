"""Settings from the command line and YAML files: the only file that touches jsonargparse.

The command line beats `--config FILE`, which beats the defaults of the dataclass. Whatever is not understood is
refused in one line that names the key, where it stands and the nearest right name.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from jsonargparse import ArgumentParser, get_loader, set_loader, set_parsing_settings

from hfscale.errors import SettingsError, one_line
from hfscale.files import write_text

T = TypeVar("T")

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


def parse_config(schema: type[T], args: list[str] | None = None) -> T:
    """Build `schema`, a dataclass of dataclasses, from a command line (by default this process's own).

    Raises:
        SettingsError: for an unknown or duplicate key, a wrong type or value, a missing file; one line.
    """
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    set_loader("yaml_or_text", _load_value, exceptions=(yaml.YAMLError,))
    parser = ArgumentParser(
        exit_on_error=False, allow_abbrev=False, parser_mode="yaml_or_text", description=schema.__doc__
    )
    parser.add_argument("--config", action="config", help="YAML file with settings; may be given more than once.")
    parser.add_class_arguments(schema)
    paths, args = _split_off_configs(_command_line() if args is None else args)
    files = {path: _read_yaml(path) for path in paths}
    for path, content in files.items():
        _refuse_unknown_keys(schema, content, path)
    # Files come first, wherever they stood on the command line; an empty one changes nothing.
    args = [f"--config={path}" for path, content in files.items() if content] + args
    try:
        values = parser.instantiate(parser.parse_args(args))
        fields = {field.name: getattr(values, field.name) for field in dataclasses.fields(schema)}  # type: ignore[arg-type]
        return schema(**fields)
    except (argparse.ArgumentError, TypeError) as error:
        raise SettingsError(_explain(str(error), schema, args, files)) from None
    except ValueError as error:  # raised by a schema's __post_init__
        raise SettingsError(_explain_check(str(error))) from None


def save_config(config: Any, path: Path) -> None:
    """Write resolved settings as YAML, so that `--config PATH` runs the same again."""
    write_text(path, yaml.safe_dump(_plain(dataclasses.asdict(config)), sort_keys=False, allow_unicode=True))


def flat_settings(config: Any) -> dict[str, Any]:
    """All settings by dotted name, lists and tuples as lists: what JSON can hold and `==` can compare."""
    return dict(_flat(_plain(dataclasses.asdict(config)) if dataclasses.is_dataclass(config) else vars(config)))  # type: ignore[arg-type]


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        value = dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def run(main: Callable[[T], None], schema: type[T]) -> None:
    """A recipe's last line: parse the command line, call `main`, and end a user's mistake in one line."""
    with one_line():
        main(parse_config(schema))


def _command_line() -> list[str]:
    import sys

    return sys.argv[1:]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


class _StrictLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice; PyYAML silently takes the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise SettingsError(f"line {key_node.start_mark.line + 1}: a list or a mapping can't be a key")
            if key in seen:
                raise SettingsError(f"line {key_node.start_mark.line + 1}: key {key} is given twice; keep one")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _split_off_configs(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """(files given with --config, all other arguments)."""
    paths, others = [], []
    words = iter(args)
    for word in words:
        if word == "--config":
            path = next(words, None)
            if path is None:
                raise SettingsError("--config needs a value: a YAML file")
            paths.append(path)
        elif word.startswith("--config="):
            paths.append(word.split("=", 1)[1])
        else:
            others.append(word)
    return paths, others


def _load_value(text: str) -> Any:
    """YAML, except that `#` and `~` alone are texts: a separator that a person gave must not become null."""
    return text if "\n" not in text and text.strip()[:1] in ("#", "~") else get_loader("yaml")(text)


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), _StrictLoader)
    except OSError as error:
        raise SettingsError(f"can't read settings file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"settings file {path} is not UTF-8 text") from None
    except SettingsError as error:
        raise SettingsError(f"{path}, {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        raise SettingsError(f"{path}{line}: not valid YAML: {reason}") from None
    if content is not None and not isinstance(content, dict):
        raise SettingsError(f"{path} must hold settings as `key: value`, not a {type(content).__name__}")
    return content or {}


def _block_of(annotation: Any) -> type | None:
    """The dataclass inside `Block` or `Block | None`, else None."""
    options = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    return next((option for option in options if dataclasses.is_dataclass(option)), None)  # type: ignore[return-value]


def _is_union(annotation: Any) -> bool:
    return isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union


def _fields(schema: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, annotation) of every setting, blocks themselves included."""
    for name, annotation in typing.get_type_hints(schema).items():
        yield prefix + name, annotation
        block = _block_of(annotation)
        if block is not None:
            yield from _fields(block, f"{prefix}{name}.")


def _keys_of(content: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys of all values; no setting is itself a mapping, so that every mapping is a block."""
    for name, value in content.items():
        if isinstance(value, dict) and value:
            yield from _keys_of(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _refuse_unknown_keys(schema: type, content: dict[str, Any], path: str) -> None:
    known = dict(_fields(schema))
    for key in _keys_of(content):
        if key not in known:
            raise SettingsError(f"{path}: unknown key {key}{_nearest(key, schema)}")
    for name, value in content.items():
        if dataclasses.is_dataclass(known[name]) and not isinstance(value, dict):
            raise SettingsError(f"{path}: {name} must be a block of settings, got {value}")


def _nearest(key: str, schema: type) -> str:
    """`"; did you mean optim.lr?"` for `optim.learning_rat`: by our own names first, then by names used elsewhere."""
    leaves = [name for name, annotation in _fields(schema) if _block_of(annotation) is None]
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


def _explain(message: str, schema: type, args: list[str], files: dict[str, dict[str, Any]]) -> str:
    """One line for what jsonargparse said in several."""
    if "unrecognized arguments: " in message:
        first = message.split("unrecognized arguments: ")[1].split()[0]
        if not first.startswith("--"):
            name = first.lstrip("-\u2013\u2014").partition("=")[0]  # with the dashes of a text processor, too
            quoted = "settings are given as --key value, in quotes where the value has several parts"
            way_out = f"did you mean --{name}?" if name in dict(_fields(schema)) else quoted
            return f"unexpected argument {first}; {way_out}"
        key = first.lstrip("-").split("=")[0]
        return f"unknown key {key} on the command line{_nearest(key, schema)}"
    if "expected one argument" in message:
        return f"--{message.split('--')[1].split(':')[0]} needs a value"
    unknown = re.search(r"Option '([^']+)' is not accepted|does not accept option '([^']+)'", message)
    keys = re.findall(r'Parser key "([^"]+)"', message)
    if unknown:
        key = ".".join([*keys[:1], unknown[1] or unknown[2]])
        return f"unknown key {key}{_nearest(key, schema)}"
    known = dict(_fields(schema))
    key = next((k for k in (".".join(keys), keys[0] if keys else "") if k in known), None)
    if "is required" in message or key is None:
        return " ".join(message.split())
    got = re.findall(r"(?:Got value|Given value): (.*)", message)
    nested = re.search(r"NestedArg\(key='([^']+)', val='(.*)'\)", message)  # a flag of an optional block
    value = nested[2] if nested else got[-1] if got else ""
    block = _block_of(known[key])
    needed = [each.name for each in dataclasses.fields(block) if each.default is dataclasses.MISSING] if block else []
    missing = next((name for name in needed if f"{name}=None" in value), None)
    if missing:
        return f"{key}.{missing} is missing, without which --{key} has no effect; give --{key}.{missing}"
    given = any(arg.split("=")[0] == f"--{key}" for arg in args)
    where, way_out = ("", _how_to_write(key, known[key], value)) if given else (_where(key, files), "")
    return f"{where}{key} must be {_describe(known[key])}{value and f', got {value}'}{way_out}"


def _how_to_write(key: str, annotation: Any, value: str) -> str:
    """A flag that the shell leaves whole, for a block, or for a list that came in pieces or without its brackets."""
    block = _block_of(annotation)
    if block:
        return f"; give its settings one by one, as in --{key}.{dataclasses.fields(block)[0].name}"  # type: ignore[arg-type]
    if "a list" not in _describe(annotation) or value.endswith("]"):
        return ""
    return f"; write it in quotes: --{key} '{f'{value} ...' if value.startswith('[') else f'[{value}'}]'"


def _explain_check(message: str) -> str:
    """What a schema's own check said, without the list of types that jsonargparse tried around it."""
    return (
        message.split("Errors:\n")[1].splitlines()[0].strip().removeprefix("- ") if "Errors:\n" in message else message
    )


def _where(key: str, files: dict[str, dict[str, Any]]) -> str:
    holds = (path for path, content in files.items() if any(f"{k}.".startswith(f"{key}.") for k in _keys_of(content)))
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
