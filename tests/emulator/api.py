"""The emulator as the tests ask it: plain requests, and instances made for the purpose."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pydicom
import requests
import yaml
from pydicom import config
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

DATA = Path(__file__).parents[1] / "data"
VECTORS = yaml.safe_load((DATA / "emulator.yaml").read_text())
SHARED_VECTORS = yaml.safe_load((DATA / "values.yaml").read_text())
FURTHER = yaml.safe_load((DATA / "further.yaml").read_text())
PYDICOM_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
PATIENCE = 30.0


class Api:
    """One store of a running emulator."""

    def __init__(self, emulator):
        self.emulator = emulator
        self.root = f"{emulator.base_url}/v1"
        self.dataset = emulator.dicom_store.partition("/dicomStores/")[0]
        self.store_url = f"{self.root}/{emulator.dicom_store}"
        self.web = emulator.dicom_web_url
        self.session = requests.Session()
        self.session.headers["Authorization"] = "Bearer token"

    def ask(self, method, path, **kwargs):
        """Send a request to a path under DICOMweb, or to a whole URL."""
        url = path if path.startswith("http") else f"{self.web}/{path}"
        return self.session.request(method, url, timeout=PATIENCE, **kwargs)

    def get(self, path, accept=None, **kwargs):
        # requests sends */* by itself; None is sent as no header at all.
        return self.ask("GET", path, headers={"Accept": accept}, **kwargs)

    def store(self, *bodies, accept="application/dicom+json", study="", **headers):
        """Store one instance alone, or several as a multipart body."""
        if len(bodies) == 1:
            content_type, body = "application/dicom", bodies[0]
        else:
            content_type, body = 'multipart/related; type="application/dicom"; boundary=XX', multipart(bodies)
        sent = {"Content-Type": content_type, "Accept": accept, **headers}
        return self.ask("POST", f"studies/{study}".rstrip("/"), data=body, headers=sent)

    def run(self, answer):
        """Wait for the operation that an answer names; give it as it ended."""
        assert answer.status_code == 200, answer.text
        assert set(answer.json()) == {"name"}
        return self.ended(answer.json()["name"])

    def ended(self, name):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            operation = self.operation(name)
            if operation.get("done"):
                return operation
            time.sleep(0.02)
        raise AssertionError(f"{name} did not end")

    def operation(self, name):
        answer = self.ask("GET", f"{self.root}/{name}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def tuples(self):
        """Give the identity of each instance in the store."""
        answer = self.get("instances?limit=50000")
        if answer.status_code == 204:
            return []
        return [tuple(item[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018")) for item in answer.json()]


def multipart(bodies, boundary="XX"):
    parts = [f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + body + b"\r\n" for body in bodies]
    return b"".join(parts) + f"--{boundary}--".encode()


def envelope(answer, status, name=None):
    """Check that an answer is Google's error envelope; give its message."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == status
    assert error["status"] == (name or VECTORS["google_error"]["http_to_status"].get(status, error["status"]))
    assert isinstance(error["message"], str)
    assert error["message"]
    return error["message"]


def instance(study="1.1", series="1.1.1", uid="1.1.1.1", **attributes):
    """Make a small Part 10 file."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SECONDARY_CAPTURE
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data_set = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    output = io.BytesIO()
    # What breaks a rule is made as readily as what keeps it.
    with config.disable_value_validation():
        data_set.SOPClassUID = SECONDARY_CAPTURE
        data_set.StudyInstanceUID, data_set.SeriesInstanceUID, data_set.SOPInstanceUID = study, series, uid
        for keyword, value in attributes.items():
            setattr(data_set, keyword, value)
        data_set.save_as(output, enforce_file_format=True)
    return output.getvalue()


def picture(**attributes):
    """Make a Part 10 file with 4 by 4 grey pixels, 0 to 15."""
    pixels = {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": 4,
        "Columns": 4,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "PixelData": bytes(range(16)),
    }
    return instance(**{**pixels, **attributes})
