"""The requests that Google's pages print, and the place in which they are sent: dataset, store, bucket."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import requests
import yaml

from tests.emulator.api import DATA, PATIENCE, instance, multipart, picture
from tests.emulator.test_store_metadata import printed

SAMPLES = yaml.safe_load((DATA / "samples.yaml").read_text())
PLACEHOLDERS = yaml.safe_load((DATA / "exchanges.yaml").read_text())["placeholders"]
STUDY, SERIES, UID = (PLACEHOLDERS[f"{name}_INSTANCE_UID"] for name in ("STUDY", "SERIES", "SOP"))
PIXELS = bytes(range(192))
DICOM_FILE = picture(
    study=STUDY,
    series=SERIES,
    uid=UID,
    SamplesPerPixel=3,
    PhotometricInterpretation="RGB",
    PlanarConfiguration=0,
    Rows=8,
    Columns=8,
    PixelData=PIXELS,
    SpecificCharacterSet="ISO_IR 192",
    PatientName="Sally Zhang",
    PatientID="P1",
    PatientBirthDate="",
    PatientSex="O",
    StudyDate="20240105",
    StudyTime="101112",
    StudyID="",
    AccessionNumber="",
    ReferringPhysicianName="Doe^John",
    Modality="OT",
    SeriesDescription="colours",
)
BODIES = {"instance": DICOM_FILE, "parts": multipart([DICOM_FILE], "BOUNDARY"), "multipart": printed()}
# What these send of their own accord; what they are told to send comes on top.
OWN_HEADERS: dict[str, dict[str, str | None]] = {
    "curl": {"Accept": "*/*"},
    "PowerShell": {"Accept": None, "Content-Type": "application/x-www-form-urlencoded"},
}


@dataclass(frozen=True)
class Replay:
    """A request and the answer that it is to have."""

    name: str
    tool: str
    given: tuple[str, ...]
    method: str
    path: str
    headers: dict[str, str]
    body: bytes | str | dict[str, Any] | None
    expect: dict[str, Any]
    settings: dict[str, Any]

    @property
    def version(self) -> str:
        return self.path.split("/")[1]

    def in_version(self, version: str) -> Replay:
        return replace(self, path=self.path.replace(f"/{self.version}/", f"/{version}/"), name=f"{self.name}-{version}")


def replays(sample):
    """Give the request as it is printed and, where that is wrong, as it is meant."""
    request = sample["request"]
    body = BODIES[request["body"]] if "body" in request else request.get("text")
    as_printed = Replay(
        sample["id"],
        sample["tool"],
        tuple(sample["given"]),
        request["method"],
        request["path"],
        request["headers"],
        body,
        sample["expect"],
        sample.get("settings", {}),
    )
    yield as_printed
    if corrected := sample.get("corrected"):
        yield replace(
            as_printed,
            name=f"{sample['id']}-corrected",
            headers=corrected.get("headers", as_printed.headers),
            body=corrected.get("json", as_printed.body),
            expect=corrected["expect"],
        )


REPLAYS = {replay.name: replay for sample in (*SAMPLES["samples"], *SAMPLES["further"]) for replay in replays(sample)}
OTHER_VERSION = {
    replay.name: replay
    for each in REPLAYS.values()
    if not each.settings
    for replay in [each.in_version("v1beta1" if each.version == "v1" else "v1")]
}


class Stage:
    """The place that the samples speak of: dataset, store and bucket, and what a sample finds there."""

    def __init__(self, api, bucket, client):
        self.api, self.objects = api, client.bucket(bucket)
        self.values = {**PLACEHOLDERS, "BUCKET": bucket}

    def filled(self, value):
        """Put values in place of the placeholders of a text, or of all texts in a structure."""
        if isinstance(value, dict):
            return {key: self.filled(item) for key, item in value.items()}
        if not isinstance(value, str):
            return value
        names = "|".join(sorted(map(re.escape, self.values), key=len, reverse=True))
        return re.sub(rf"(?<![A-Za-z0-9_])({names})(?![A-Za-z0-9_])", lambda match: self.values[match[1]], value)

    def prepare(self, replay):
        for what in replay.given:
            getattr(self, f"_{what}")(replay.version)
        if replay.settings:
            self.api.emulator.settings(**replay.settings)

    def _instance(self, _version):
        assert self.api.store(DICOM_FILE).status_code == 200

    def _objects(self, _version):
        other = instance(study="1.9")
        for name, content in (
            ("one.dcm", DICOM_FILE),
            ("path/to/file.dcm", DICOM_FILE),
            ("notes.txt", b"no DICOM"),
            ("sub/two.dcm", other),
        ):
            self.objects.blob(name).upload_from_string(content)

    def _filter(self, _version):
        self.api.store(instance(study="1.9"))
        name = f"{PLACEHOLDERS['DIRECTORY']}/{PLACEHOLDERS['FILTER_FILE']}"
        self.objects.blob(name).upload_from_string(f"/studies/{STUDY}\n")

    def _deletion(self, version):
        self._started("DELETE", f"{self._root(version)}/dicomWeb/studies/{STUDY}")

    def _import(self, version):
        self._objects(version)
        uri = {"gcsSource": {"uri": f"gs://{self.values['BUCKET']}/*.dcm"}}
        self._started("POST", f"{self._root(version)}:import", json=uri)

    def _export(self, version):
        prefix = {"gcsDestination": {"uriPrefix": f"gs://{self.values['BUCKET']}/x"}}
        self._started("POST", f"{self._root(version)}:export", json=prefix)

    def _root(self, version):
        return self.api.store_url.replace("/v1/", f"/{version}/")

    def _started(self, method, url, **kwargs):
        operation = self.api.run(self.api.ask(method, url, **kwargs))
        self.values["OPERATION_ID"] = self.values["OPERATION_NAME"] = operation["name"].rpartition("/")[2]

    def send(self, replay):
        headers = {**OWN_HEADERS.get(replay.tool, {}), **self.filled(replay.headers)}
        body = {"json": self.filled(replay.body)} if isinstance(replay.body, dict) else {"data": self._raw(replay.body)}
        url = self.api.emulator.base_url + self.filled(replay.path)
        return requests.request(replay.method, url, headers=headers, timeout=PATIENCE, **body)

    def _raw(self, body):
        return self.filled(body).encode() if isinstance(body, str) else body
