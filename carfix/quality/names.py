"""Names that strangers gave, as tables and texts show them: nothing in them is markup, an emoji or undecodable."""

from rich.text import Text


def readable(name: str) -> str:
    """`name` with marks for the bytes that are not UTF-8: where a file is called by them, no text can hold it."""
    return name.encode("utf-8", errors="replace").decode()


def literal(name: str) -> Text:
    """`name` for a table's cell or heading, letter by letter."""
    return Text(readable(name))


def heading(title: str) -> Text:
    """`title` for what stands above a table."""
    return Text(readable(title), style="table.title")
