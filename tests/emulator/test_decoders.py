"""Decoding happens in a process of its own, which may die."""

from __future__ import annotations

import os
import signal
import threading
import time

import psutil
import pytest

from airflow_dicomweb.emulator import running_emulator
from airflow_dicomweb.emulator.decoders import ConversionError, Decoders, RenderingError
from tests.emulator.api import PATIENCE, Api, instance, picture


@pytest.fixture
def decoders():
    opened = Decoders()
    yield opened
    opened.close()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "picture.dcm"
    path.write_bytes(picture())
    return path


def test_a_process_that_died_is_replaced(decoders, file):
    assert decoders.render(file, "image/png").startswith(b"\x89PNG")
    first = decoders._process
    os.kill(first.pid, signal.SIGKILL)
    first.wait(PATIENCE)
    assert decoders.render(file, "image/png").startswith(b"\x89PNG")
    assert decoders._process.pid != first.pid


def test_a_picture_that_takes_its_decoder_down_is_an_error_of_that_picture_alone(decoders, file, tmp_path):
    decoders.render(file, "image/png")
    process, errors = decoders._process, []
    process.send_signal(signal.SIGSTOP)

    def render():
        try:
            decoders.render(file, "image/png")
        except RenderingError as error:
            errors.append(str(error))

    thread = threading.Thread(target=render)
    thread.start()
    process.kill()
    thread.join(PATIENCE)
    assert len(errors) <= 1  # The death may be seen before the job was sent: then another process does it.
    decoders.render(file, "image/png")
    missing = tmp_path / "missing.dcm"
    with pytest.raises(RenderingError):
        decoders.render(missing, "image/png")
    with pytest.raises(ConversionError):
        decoders.convert(missing, "1.2.840.10008.1.2.1", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["picture.dcm"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_decoder_ends_with_the_emulator_however_that_ends(tmp_path, number):
    with running_emulator(tmp_path / "data") as emulator:
        api = Api(emulator)
        api.store(picture(), instance(uid="1.1.1.2"))
        answer = api.get("studies/1.1/series/1.1.1/instances/1.1.1.1/rendered")
        assert answer.status_code == 200
        (decoder,) = psutil.Process(emulator.process.pid).children()
        emulator.process.send_signal(number)
        emulator.process.wait(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while decoder.is_running() and decoder.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not decoder.is_running() or decoder.status() == psutil.STATUS_ZOMBIE
