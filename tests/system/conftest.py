"""One run of everything for all system tests."""

from __future__ import annotations

import pytest

from tests.system.evidence import Evidence
from tests.system.installation import gather


@pytest.fixture(scope="session")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """What one run of everything left behind."""
    return gather(tmp_path_factory.mktemp("system"))
