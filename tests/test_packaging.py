"""What lies in an installed carfix and in its source archive."""

import importlib.resources
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ARCHIVED = set(PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"])


def test_type_checkers_are_told_that_there_are_types() -> None:
    assert (importlib.resources.files("carfix") / "py.typed").is_file()


def test_the_licence_of_what_comes_along_is_stated() -> None:
    """Whoever looks through what is installed reads it there."""
    found = {path.relative_to(ROOT).as_posix() for path in (ROOT / "carfix").rglob("*LICENSE*")}
    assert found and found <= set(PROJECT["project"]["license-files"])
    assert "MIT" in PROJECT["project"]["license"]


def test_tests_find_in_the_source_archive_what_they_read() -> None:
    assert {"carfix", "weights", "tests", "docs", "bench", "README.md"} <= ARCHIVED


def test_links_lead_somewhere_in_the_source_archive() -> None:
    """There `tests/test_docs.py` follows them all."""
    for page in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md"):
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / page).read_text(encoding="utf-8")):
            assert link.startswith("http") or link.partition("/")[0] in ARCHIVED, f"{page}: {link}"
