"""The retrievals of a client.

Source: DICOM PS3.18 section 10.4 (retrieve transaction).
"""

from __future__ import annotations

import os

from airflow_dicomweb.dicomweb.dicom_json import DicomJson, check_answer
from airflow_dicomweb.dicomweb.exchanges import Exchanges
from airflow_dicomweb.dicomweb.media_types import DICOM_JSON
from airflow_dicomweb.dicomweb.resources import InstancePath, resource_path
from airflow_dicomweb.dicomweb.stow import check_choice
from airflow_dicomweb.dicomweb.wado import RENDERED, RetrievedFile, check_destination, check_viewport, first_part, parts


class Retrievals:
    """Retrieves what is stored; part of ``DicomWebClient``."""

    _exchanges: Exchanges

    def retrieve(
        self,
        study: str,
        series: str | None = None,
        instance: str | None = None,
        *,
        destination: str | os.PathLike[str],
    ) -> list[RetrievedFile]:
        """Retrieve a study, series or instance to files, byte for byte as it is stored: all of it or nothing.

        :param study: Study Instance UID.
        :param series: Series Instance UID, or None for the whole study.
        :param instance: SOP Instance UID, or None for the whole series.
        :param destination: Folder; files are ``study/series/instance.dcm`` below it, only their owner can read them, and
            those that exist are replaced.
        :return: The files, in the order of the UIDs.
        :raises ConfigurationError: If a UID is not one, or files cannot be written to the destination.
        :raises NotFoundError: If it is not there.
        :raises ProtocolError: If something else came than was asked for, or not what the server's own search names.
        :raises TransportError: If the answer was cut, every time it was asked for.
        """
        wanted = resource_path(study, series, instance)
        check_destination(destination, wanted)
        return self._exchanges.download(wanted, destination)

    def retrieve_metadata(self, study: str, series: str | None = None, instance: str | None = None) -> list[DicomJson]:
        """Retrieve all attributes but bulk data, as DICOM JSON, one data set for each instance.

        :param study: Study Instance UID; ``series`` and ``instance`` as for :meth:`retrieve`.
        :raises ConfigurationError: If a UID is not one.
        :raises NotFoundError: If it is not there.
        """
        answer = self._exchanges.get(f"{resource_path(study, series, instance)}/metadata", DICOM_JSON)
        return check_answer(answer.json())

    def retrieve_rendered(
        self,
        study: str,
        series: str,
        instance: str,
        *,
        media_type: str = "image/png",
        viewport: tuple[int, int] | None = None,
    ) -> bytes:
        """Retrieve an instance as a picture; of several frames the first one.

        :param study: Study Instance UID; ``series`` and ``instance`` as for :meth:`retrieve`.
        :param media_type: ``image/png`` or ``image/jpeg``.
        :param viewport: Width and height in pixels to scale to, or None for the size of the image.
        :raises ConfigurationError: If an argument cannot be meant.
        :raises NotFoundError: If it is not there.
        :raises ProtocolError: If something else than such a picture came.
        """
        path = InstancePath(study, series, instance)
        check_choice(media_type, "media_type", RENDERED)
        query = (("viewport", check_viewport(viewport)),) if viewport is not None else ()
        answer = self._exchanges.get(f"{path}/rendered", media_type, query)
        return first_part(parts([answer.content], answer.headers.get("Content-Type"), media_type))
