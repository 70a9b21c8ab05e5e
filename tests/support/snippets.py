"""The Python lines of a text for users, run as they stand."""

from __future__ import annotations

import contextlib
import io
import json
import re


def code_of(text: str, **put: str) -> str:
    """The last Python lines of a Markdown text, with some of their words replaced."""
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[-1]
    for word, replacement in put.items():
        assert f'"{word}"' in code
        code = code.replace(f'"{word}"', json.dumps(replacement))
    return code


def printed_by(text: str, **put: str) -> str:
    """What they print, without torch or transformers."""
    code = code_of(text, **put)
    assert "torch" not in code and "transformers" not in code
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    return printed.getvalue().strip()
