"""How far counted work is, for whoever waits for it."""

from collections.abc import Callable

#: Hears how much is done, how much there is in all (a guess, where nobody knows), and a text about the last of it.
OnProgress = Callable[[int, int, str], None]


def silent(done: int, total: int, text: str) -> None:
    """Tells nobody."""
