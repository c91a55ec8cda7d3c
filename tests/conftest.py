"""What all tests share: one cache folder, and processes that are started as a user's.

No test reads or leaves anything in the user's own folder, and engines are timed once.
"""

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
    # Containers set it, users do not: what Python keeps for stdout and stderr is part of what a user meets.
    os.environ.pop("PYTHONUNBUFFERED", None)
