"""Settings from the command line and YAML files: the only file that touches jsonargparse.

The command line beats `--config FILE`, which beats the defaults of the dataclass. Whatever is not understood is
refused in one line that names the key, where it stands and the nearest right name.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import ArgumentParser, get_loader, set_loader, set_parsing_settings

from hfscale.errors import SettingsError, one_line
from hfscale.files import write_text
from hfscale.wrong_settings import block_of, explain, explain_check, fields_of, keys_of, nearest

T = TypeVar("T")


def parse_config(schema: type[T], args: list[str] | None = None) -> T:
    """Build `schema`, a dataclass of dataclasses, from a command line (by default this process's own).

    Raises:
        SettingsError: for an unknown or duplicate key, a wrong type or value, a missing file; one line.
    """
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    set_loader("yaml_or_text", _load_value, exceptions=(yaml.YAMLError,))
    parser = ArgumentParser(
        exit_on_error=False,
        allow_abbrev=False,
        parser_mode="yaml_or_text",
        description=schema.__doc__,
        usage="%(prog)s [--config FILE ...] [--KEY VALUE ...]",
    )
    parser.add_argument(
        "--config", metavar="FILE", action="config", help="YAML file with settings; may be given more than once."
    )
    parser.add_class_arguments(schema)
    _complete_help(parser, schema)
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
        raise SettingsError(explain(str(error), schema, args, files)) from None
    except ValueError as error:  # raised by a schema's __post_init__
        raise SettingsError(explain_check(str(error))) from None


def _complete_help(parser: ArgumentParser, schema: type) -> None:
    """Say what an optional block is for, by its own docstring, and nothing that has a default to be required."""
    annotations = dict(fields_of(schema))
    for action in parser._actions:
        block = block_of(annotations.get(action.dest))
        action.help = action.help or (block and block.__doc__)
        action.required = action.required and action.default is None


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


def _refuse_unknown_keys(schema: type, content: dict[str, Any], path: str) -> None:
    known = dict(fields_of(schema))
    for key in keys_of(content):
        if key not in known:
            raise SettingsError(f"{path}: unknown key {key}{nearest(key, schema)}")
    for name, value in content.items():
        if dataclasses.is_dataclass(known[name]) and not isinstance(value, dict):
            raise SettingsError(f"{path}: {name} must be a block of settings, got {value}")
