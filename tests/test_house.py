"""The rules of the house that no linter knows: sizes, real servers in place of mocks, nothing of one machine."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MOST_LINES_OF_A_MODULE = 320
MOST_LINES_OF_A_FUNCTION = 50

# A lock file or a document with one of these works on the machine where it was written, and perhaps nowhere else.
OF_ONE_MACHINE = re.compile(
    r"pythonhosted\.org|pypi\.org/simple|registry\.npmjs\.org|(?:extra-index-url|index-url|find-links)[ =]+\w+:"
    r"|(?<![\w./:>-])/(?:work|root|home/\w+|Users/\w+|tmp/scratch)/"
)


def tracked_files() -> list[Path]:
    """The files of the repository, also those about to be added."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def modules(*folders: str) -> list[Path]:
    """All Python files in some top folders."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def long_functions(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MOST_LINES_OF_A_FUNCTION:
                yield f"{node.name}: {length} lines"


def replaced_parts(source: str) -> Iterator[str]:
    """Where a test puts something of its own in the place of a part of the program."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names) if any(name.name.startswith(("unittest.mock", "mock")) for name in names):
                yield f"line {node.lineno}: import of mock"
            case ast.ImportFrom(module="unittest.mock" | "mock"):
                yield f"line {node.lineno}: import from mock"
            case ast.ImportFrom(module="unittest", names=names) if any(name.name == "mock" for name in names):
                yield f"line {node.lineno}: import of mock"
            case ast.Attribute(value=ast.Name(id="monkeypatch" | "mocker"), attr="setattr" | "patch" | "delattr"):
                yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("module", modules("airflow_dicomweb"), ids=name_of)
def test_a_module_is_short_enough_to_be_one_thing(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= MOST_LINES_OF_A_MODULE


@pytest.mark.parametrize("module", modules("airflow_dicomweb", "demo", "example_dags"), ids=name_of)
def test_a_function_is_short_enough_to_be_read_at_once(module: Path) -> None:
    assert list(long_functions(module.read_text())) == []


@pytest.mark.parametrize("module", modules("tests"), ids=name_of)
def test_a_test_uses_real_parts(module: Path) -> None:
    assert list(replaced_parts(module.read_text())) == []


@pytest.mark.parametrize(
    "module", modules("airflow_dicomweb", "benchmarks", "demo", "example_dags", "tests"), ids=name_of
)
def test_a_module_begins_by_saying_what_it_is(module: Path) -> None:
    source = module.read_text()
    assert ast.get_docstring(ast.parse(source)), "no docstring"
    assert source.startswith(('"""', 'r"""')), "something stands before the docstring"


def test_no_file_is_bound_to_one_machine_or_package_index() -> None:
    found = []
    for path in tracked_files():
        if path == Path(__file__):
            continue
        text = path.read_bytes().decode("utf-8", errors="ignore")
        found += [f"{name_of(path)}: {match[0]}" for match in OF_ONE_MACHINE.finditer(text)]
    assert found == []


def test_every_dependency_is_locked() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = [declared["project"]["dependencies"], *declared["project"]["optional-dependencies"].values()]
    lists += declared["dependency-groups"].values()
    names = {re.split(r"[\[<>=!~; ]", line)[0] for lines in lists for line in lines} - {declared["project"]["name"]}
    locked = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements" / "everything.lock").read_text(), re.MULTILINE))
    assert names - locked == set(), "run: make lock"


def test_the_checks_find_what_they_look_for() -> None:
    long = "def f():\n" + "    pass\n" * MOST_LINES_OF_A_FUNCTION
    assert list(long_functions(long)) == [f"f: {MOST_LINES_OF_A_FUNCTION + 1} lines"]
    for source in ("from unittest import mock", "import unittest.mock", "monkeypatch.setattr(a, 'b', 1)"):
        assert len(list(replaced_parts(source))) == 1, source
    for text in ("see /home/me/x", "--find-links file:x", "(/root/.cache)", "https://files.pythonhosted.org/packages"):
        assert OF_ONE_MACHINE.search(text), text
    for text in ("https://host/home/me/", "gs://bucket/work/", "index-url", "$HOME/x"):
        assert not OF_ONE_MACHINE.search(text), text
