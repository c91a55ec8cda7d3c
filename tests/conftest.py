"""One cache folder for the whole run: no test reads or leaves anything in the user's, and engines are timed once."""

import os
import shutil
import tempfile

import pytest

_FOLDER = "CARFIX_TEST_CACHE"


def pytest_configure(config: pytest.Config) -> None:
    """Before anything is imported; pytest-xdist's workers inherit the folder of their parent."""
    if _FOLDER not in os.environ:
        os.environ[_FOLDER] = tempfile.mkdtemp(prefix="carfix-tests-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(_FOLDER), ignore_errors=True))
    os.environ["XDG_CACHE_HOME"] = os.environ[_FOLDER]
