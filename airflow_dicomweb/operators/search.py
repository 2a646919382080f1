"""Searching for studies, series or instances.

Source: DICOM PS3.18 section 10.6 (search transaction).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_dicomweb.dicomweb.dicom_json import keyword_of, tag_of
from airflow_dicomweb.dicomweb.qido import search_query
from airflow_dicomweb.dicomweb.stow import check_choice
from airflow_dicomweb.errors import ConfigurationError, DicomWebError
from airflow_dicomweb.operators._base import DicomWebOperator, reveal, whole_number
from airflow_dicomweb.operators._reports import check_report_uri, check_writable, write_report

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_dicomweb.dicomweb.client import DicomWebClient

LEVELS = ("study", "series", "instance")

NOT_IDENTIFYING = frozenset(
    {
        *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "AvailableTransferSyntaxUID"),
        *("Modality", "ModalitiesInStudy", "SOPClassesInStudy", "InstanceAvailability"),
        *("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances", "NumberOfSeriesRelatedInstances"),
        *("SeriesNumber", "InstanceNumber", "NumberOfFrames", "Rows", "Columns", "BitsAllocated"),
    }
)
"""Keywords of the attributes that go into XCom without further ado."""


class DicomWebSearchOperator(DicomWebOperator):
    """Search, and give what was found: UIDs, modalities, and counts where the server gives them.

    :param level: ``study``, ``series`` or ``instance``.
    :param filters: Values by keyword or tag, as for ``DicomWebClient.search_studies``. Never shown by Airflow.
    :param return_fields: Keywords or tags of further attributes. Those that may identify a patient need
        ``include_identifying`` or ``report_uri``.
    :param fuzzy_matching: Match names fuzzily, where the server can.
    :param limit: Most results; more are an error.
    :param include_identifying: Put all attributes of the results into XCom, which Airflow keeps and shows.
    :param report_uri: Private file, or ``gs://`` object, that gets all attributes of the results, one JSON object a
        line, numbered by ``ordinal`` from 0.
    """

    template_fields: Sequence[str] = (
        *DicomWebOperator.template_fields,
        *("level", "filters", "return_fields", "limit", "report_uri"),
    )
    private_fields = ("filters", "report_uri")

    def __init__(
        self,
        *,
        level: str = "study",
        filters: Mapping[str, Any] | None = None,
        return_fields: Sequence[str] | None = None,
        fuzzy_matching: bool = False,
        limit: int = 1000,
        include_identifying: bool = False,
        report_uri: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.level = level
        self.filters = filters
        self.return_fields = return_fields
        self.fuzzy_matching = fuzzy_matching
        self.limit = limit
        self.include_identifying = include_identifying
        self.report_uri = report_uri

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Search; with more results than the limit nothing is returned.

        :raises ConfigurationError: If an argument is wrong, or the report cannot be written: nothing was sent.
        :raises DicomWebError: If there are more results than the limit.
        """
        self._check()
        report_uri = reveal(self.report_uri)
        settings = self.hook.settings()
        if report_uri is not None:
            check_writable(report_uri, settings)
        with settings.client() as client:
            results = list(self._search(client))
        if len(results) > int(self.limit):
            raise DicomWebError(
                f"the search found more than {self.limit} results, and none of them is returned: raise limit (it is "
                f"{self.limit}), or narrow the filters"
            )
        self.log.info("%d results at the level %s", len(results), self.level)
        if report_uri is not None:
            lines = ({"ordinal": ordinal, **found} for ordinal, found in enumerate(results))
            write_report(report_uri, lines, settings, f"{len(results)} results were found")
        if self.include_identifying:
            return results
        return [{name: value for name, value in each.items() if name in NOT_IDENTIFYING} for each in results]

    def _search(self, client: DicomWebClient) -> Iterator[dict[str, Any]]:
        searches = {
            "study": client.search_studies,
            "series": client.search_series,
            "instance": client.search_instances,
        }
        return searches[self.level](
            reveal(self.filters) or {},
            include_fields=self.return_fields or (),
            fuzzy_matching=self.fuzzy_matching,
            limit=int(self.limit) + 1,
        )

    def _check(self) -> None:
        check_choice(self.level, "level", LEVELS)
        if whole_number(self.limit, "limit") < 1:
            raise ConfigurationError("limit must be a whole number, 1 or more; 0 was given")
        filters = reveal(self.filters)
        if filters is not None and not isinstance(filters, Mapping):
            raise ConfigurationError("filters must be a mapping of keywords or tags to values")
        fields = self.return_fields or ()
        if isinstance(fields, str):
            raise ConfigurationError("return_fields must be a list of keywords or tags")
        search_query(filters, fields, fuzzy=self.fuzzy_matching)
        if self.report_uri is not None:
            check_report_uri(reveal(self.report_uri))
        elif not self.include_identifying:
            private = [name for name in fields if name == "all" or not _is_harmless(name)]
            if private:
                raise ConfigurationError(
                    f"return_fields has attributes that may identify a patient ({', '.join(private)}): set "
                    "include_identifying to have them in XCom, or report_uri to have them in a private file"
                )


def _is_harmless(name: str) -> bool:
    return keyword_of(tag_of(name)) in NOT_IDENTIFYING
