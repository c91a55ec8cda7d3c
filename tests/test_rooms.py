"""Imports between the rooms of carfix go in one direction."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "carfix"
#: What a room may import besides itself and the files at the top of the package.
ALLOWED = {
    "net": set[str](),
    "video": set[str](),
    "restore": {"net", "video"},
    "training": {"net", "video"},
    "quality": {"restore", "net", "video"},
    "cli": {"restore", "training", "quality", "net", "video"},
}


def _imported(path: Path) -> set[str]:
    """The rooms that a file imports from, also where it does so late or only for types."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("carfix.")} & ALLOWED.keys()


def test_every_room_is_known() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == ALLOWED.keys()


@pytest.mark.parametrize("room", ALLOWED)
def test_nothing_imports_upward(room: str) -> None:
    for path in (PACKAGE / room).rglob("*.py"):
        assert _imported(path) <= ALLOWED[room] | {room}, path.relative_to(PACKAGE)


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.name)
def test_what_all_share_knows_no_room(path: Path) -> None:
    entrances = {"__init__.py", "__main__.py"}
    assert path.name in entrances or not _imported(path)
