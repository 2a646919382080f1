"""What the emulator's tests share."""

from __future__ import annotations

import pytest

from tests.emulator.api import Api


@pytest.fixture
def api(dicomweb_emulator):
    """An empty store, asked by plain requests."""
    return Api(dicomweb_emulator)
