"""Real servers on the loopback interface, started and stopped by the tests."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skip a test whose server is not installed; where CI runs, fail it.

    :param reason: What is missing, and how it is installed.
    """
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
