"""What lies in an installed carfix and in its source archive."""

import importlib.resources
import tomllib
from pathlib import Path


def test_type_checkers_are_told_that_there_are_types() -> None:
    assert (importlib.resources.files("carfix") / "py.typed").is_file()


def test_tests_find_in_the_source_archive_what_they_read() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    archived = set(project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"])
    assert {"carfix", "weights", "tests", "docs", "bench", "README.md"} <= archived
