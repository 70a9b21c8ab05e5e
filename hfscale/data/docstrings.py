"""`builtin:docstrings`: real English and code for a first pretraining, from packages that are installed anyway.

What comes out depends on the installed versions; it is for first runs and tests.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

_PACKAGES = ("numpy", "sklearn")  # requirements of hfscale with long, careful docstrings
_LEFT_OUT = {"test", "tests", "idlelib", "site-packages", "dist-packages", "lib2to3", "__pycache__"}
_SHORTEST = 100  # characters: below that they are labels, not text


@lru_cache(maxsize=1)
def docstring_files() -> tuple[Path, ...]:
    """Sources of the standard library, numpy and scikit-learn, in order: about 23 MB that parse in 10 seconds."""
    roots = [Path(sysconfig.get_path("stdlib"))]
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.origin is not None
        roots.append(Path(spec.origin).parent)
    return tuple(
        path
        for root in roots
        for path in sorted(root.rglob("*.py"))
        if not _LEFT_OUT & set(path.relative_to(root).parts)
    )


def read_docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """(line, docstring) of the module, its classes and functions; nothing of a file that Python can't parse."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # deliberately broken examples
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node, clean=False)
            if text and len(text) >= _SHORTEST:
                yield getattr(node, "lineno", 1), inspect.cleandoc(text)
