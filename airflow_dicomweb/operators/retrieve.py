"""Retrieving to files.

Source: DICOM PS3.18 section 10.4 (retrieve transaction).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_dicomweb.dicomweb.resources import resource_path
from airflow_dicomweb.errors import ConfigurationError
from airflow_dicomweb.operators._base import DicomWebOperator, reveal, whole_number

if TYPE_CHECKING:
    from airflow.sdk import Context


class DicomWebRetrieveOperator(DicomWebOperator):
    """Retrieve a study, series or instance to a folder or a bucket: all of it, or the task fails.

    A retried task goes on where the one before ended: what came whole is not asked for again.

    :param study: Study Instance UID.
    :param series: Series Instance UID, or None for the whole study.
    :param instance: SOP Instance UID, or None for the whole series.
    :param frames: Numbers of frames of the instance, from 1, as a list or as text such as ``1,3``; None for all of it.
    :param destination: Absolute path of a folder, which all workers reach, or ``gs://bucket/prefix``. Files are
        ``study/series/instance.dcm`` below it. A path is never shown by Airflow, but it is in XCom: name no folder after
        a patient.
    :param media_type: ``application/dicom`` for what is stored, ``image/png`` or ``image/jpeg`` for pictures,
        ``application/dicom+json`` for metadata.
    :param viewport: ``(width, height)`` in pixels of pictures; None for the size of the image.
    :param workers: Requests at the same time.
    :param resume: False to fetch also what an earlier try or run brought.
    """

    template_fields: Sequence[str] = (
        *DicomWebOperator.template_fields,
        *("study", "series", "instance", "frames", "destination", "media_type", "workers"),
    )
    private_fields = ("destination",)

    def __init__(
        self,
        *,
        study: str,
        series: str | None = None,
        instance: str | None = None,
        frames: Sequence[int] | str | None = None,
        destination: str | os.PathLike[str],
        media_type: str = "application/dicom",
        viewport: tuple[int, int] | None = None,
        workers: int = 4,
        resume: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.study = study
        self.series = series
        self.instance = instance
        self.frames = frames
        self.destination = destination
        self.media_type = media_type
        self.viewport = viewport
        self.workers = workers
        self.resume = resume

    def execute(self, context: Context) -> dict[str, Any]:
        """Retrieve, and say how much there is now.

        :raises ConfigurationError: If an argument is wrong, or files cannot be written: nothing was asked for.
        :raises NotFoundError: If it is not there.
        :raises ProtocolError: If what came is not what the server's own search names.
        """
        destination = _destination(reveal(self.destination))
        wanted = resource_path(self.study, self.series, self.instance)
        with self.hook.settings().client() as client:
            files = client.retrieve(
                self.study,
                self.series,
                self.instance,
                destination=destination,
                frames=_frames(self.frames),
                media_type=self.media_type,
                viewport=_viewport(self.viewport),
                workers=whole_number(self.workers, "workers"),
                resume=self.resume,
            )
        found = {"files": len(files), "bytes": sum(file.size for file in files)}
        self.log.info("%s: %d files with %d bytes are at the destination", wanted, found["files"], found["bytes"])
        return {**found, "destination": destination}


def _destination(given: Any) -> str:
    text = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if isinstance(text, str) and (text.startswith("gs://") or Path(text).is_absolute()):
        return text
    raise ConfigurationError("the destination must be the absolute path of a folder, or gs://BUCKET/PREFIX")


def _frames(given: Any) -> Any:
    """Read numbers of frames; templates give text."""
    return [each.strip() for each in given.strip("[]").split(",")] if isinstance(given, str) else given


def _viewport(given: Any) -> Any:
    """Read a viewport: JSON has no tuples."""
    return tuple(given) if isinstance(given, list) else given
