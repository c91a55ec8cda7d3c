"""Python in the documentation runs as it stands, options and arguments have a page, and links lead somewhere."""

import importlib
import inspect
import re
import shutil
from pathlib import Path

import pytest
import typer

import carfix
from carfix.cli.app import COMMANDS, _load_commands, app

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"
#: The README and docs/python.md promise that these run.
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
_SNIPPETS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in (ROOT / "README.md", ROOT / "docs" / "python.md")
    for number, block in enumerate(_BLOCK.findall(page.read_text(encoding="utf-8")), 1)
]


def test_there_are_snippets() -> None:
    assert len(_SNIPPETS) >= 6


@pytest.mark.parametrize("code", _SNIPPETS)
def test_snippet_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    shutil.copy(DATA / "highway.mp4", tmp_path / "in.mp4")
    shutil.copy(DATA / "highway_pristine.mp4", tmp_path / "pristine.mp4")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "snippet", "exec"), {"luma": np.zeros((64, 64), np.uint8)})


def test_snippets_import_names_from_where_they_are() -> None:
    """Type checkers take no others ("does not explicitly export attribute")."""
    code = "\n".join(str(snippet.values[0]) for snippet in _SNIPPETS)
    found = re.findall(r"^from (carfix\S*) import (\w+)$", code, re.MULTILINE)
    assert len(found) >= 2
    for module, name in found:
        assert getattr(importlib.import_module(module), name).__module__ == module


#: Which page has the options of a command, where it is not called as the command is.
_PAGES = {"inspect": "compare"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_page(command: str) -> None:
    _load_commands()
    (function,) = (known.callback for known in app.registered_commands if known.name == command)
    assert function is not None
    page = (ROOT / "docs" / f"{_PAGES.get(command, command)}.md").read_text(encoding="utf-8")
    alone = typer.Typer(add_completion=False)
    alone.command()(function)
    for option in typer.main.get_command(alone).params:
        if option.param_type_name == "option" and option.name != "help":
            names = [*option.opts, *option.secondary_opts]
            assert any(re.search(rf"`(?:[^`]* )?{re.escape(name)}\b", page) for name in names), names


@pytest.mark.parametrize("name", ["restore_video", "restored_frames"])
def test_every_argument_is_told(name: str) -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    parameters = set(inspect.signature(getattr(carfix, name)).parameters) - {"source", "output"}
    assert [argument for argument in sorted(parameters) if f"`{argument}`" not in page] == []


_MARKDOWN = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *(path for folder in ("docs", "weights") for path in sorted((ROOT / folder).glob("*.md"))),
]


def _anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", _MARKDOWN, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link
