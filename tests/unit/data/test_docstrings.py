"""The built-in corpus: docstrings of packages that are installed anyway."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from hfscale.data import corpus, sources
from hfscale.data.corpus import load_corpus
from hfscale.data.docstrings import docstring_files, read_docstrings
from hfscale.data.sources import find_source
from hfscale.errors import DataError
from hfscale.schemas import CorpusSettings

LONG = "What this does, in a good many words, and " * 4 + "more"


def test_docstrings_of_a_module_its_classes_and_functions(tmp_path: Path) -> None:
    path = tmp_path / "code.py"
    path.write_text(
        f'"""{LONG}\n\n    Indented.\n    """\n\nx = 1\n\n\nclass A:\n    """short"""\n\n    async def f(self):\n'
        f'        """Of f. {LONG}\n\n        More.\n        """\n\n\ndef g():\n    """Of g. {LONG}"""\n'
    )
    found = list(read_docstrings(path))
    texts = [text for _, text in found]
    assert texts[0] == f"{LONG}\n\nIndented."
    assert texts[1] == f"Of g. {LONG}"
    assert texts[2].endswith("\n\nMore.")
    assert len(texts) == 3, "the short one is a label, not text"
    lines = path.read_text().splitlines()
    assert all("def " in lines[line - 1] for line, _ in found[1:])


@pytest.mark.parametrize("content", [b"def broken(:\n", b"# -*- coding: nothing -*-\nx = 1\n", b"x = '\0'\n"])
def test_a_file_that_does_not_parse_holds_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.py").write_bytes(content)
    assert not list(read_docstrings(tmp_path / "broken.py"))


def test_the_files_are_library_code_without_tests() -> None:
    files = docstring_files()
    assert len(files) > 500
    assert len(set(files)) == len(files)
    assert {"argparse.py", "_pca.py"} <= {path.name for path in files}
    assert not any({"tests", "idlelib"} & set(path.parts[-3:]) for path in files)


def test_they_are_a_corpus_and_no_labelled_data(monkeypatch: pytest.MonkeyPatch) -> None:
    few = tuple(path for path in docstring_files() if path.name in ("argparse.py", "textwrap.py", "heapq.py"))
    monkeypatch.setattr(sources, "docstring_files", lambda: few)
    found = load_corpus(CorpusSettings(train="builtin:docstrings", validation_fraction=0.0)).train
    expected = [text for path in few for _, text in corpus.read_docstrings(path)]
    assert found["text"][:] == expected and len(expected) > 10
    assert ast.get_docstring(ast.parse(few[0].read_text())) in expected
    with pytest.raises(DataError, match="builtin:docstrings is text for pretraining"):
        find_source("builtin:docstrings")
