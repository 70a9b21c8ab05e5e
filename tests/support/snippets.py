"""The Python lines of a text for users, run as they stand."""

from __future__ import annotations

import contextlib
import io
import json
import re


def printed_by(text: str, **put: str) -> str:
    """What the last Python lines of a Markdown text print, with some of their words replaced."""
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[-1]
    for word, replacement in put.items():
        assert f'"{word}"' in code
        code = code.replace(f'"{word}"', json.dumps(replacement))
    assert "torch" not in code and "transformers" not in code
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    return printed.getvalue().strip()
