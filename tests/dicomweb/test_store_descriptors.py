"""What a store leaves open: no file, whatever became of it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from tests.dicomweb.instances import series_of
from tests.dicomweb.scripted import NOTHING, kinds, stored, storing

_OPEN = Path("/proc/self/fd")

pytestmark = pytest.mark.skipif(not _OPEN.is_dir(), reason="the system does not say which files are open")


def open_below(folder: Path) -> list[str]:
    """Give the open files below a folder."""
    found = []
    for descriptor in _OPEN.iterdir():
        with suppress(OSError):  # the one of this listing is closed by now
            found.append(os.readlink(descriptor))  # noqa: PTH115 - a name, also of what is no path
    return [name for name in found if name.startswith(f"{folder}/")]


def test_no_file_stays_open_whether_it_was_stored_or_cannot_be(tmp_path: Path) -> None:
    series_of(tmp_path, 2)
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("no image")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with storing(NOTHING, stored(0, 1)) as (client, _):
        result = client.store(tmp_path)
        assert open_below(tmp_path) == []
    assert sorted(kinds(result)) == ["created", "created", "failed", "failed", "skipped"]


def test_an_open_file_is_found(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w"):
        assert open_below(tmp_path) == [str(tmp_path / "a")]
