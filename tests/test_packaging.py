"""What lies in an installed carfix and in its source archive."""

import importlib.resources


def test_type_checkers_are_told_that_there_are_types() -> None:
    assert (importlib.resources.files("carfix") / "py.typed").is_file()
