"""In what servers differ, as far as this package acts differently.

A server is found by what it answers (:func:`recognise`), or it is named in the connection or as the client's
``server``. One that is neither counts as :data:`STANDARD`, and nothing is expected of it that the standard does not say.

Orthanc 1.10 and tiny-pacs-dicomweb 0.1 are as the tests run them. Google is as its documentation and the emulator have
it, dcm4chee as its sources have it; neither is run.

Source: https://orthanc.uclouvain.be/book/plugins/dicomweb.html; Cloud Healthcare API, DICOM conformance statement;
https://github.com/dcm4che/dcm4chee-arc-light (``StowRS``, ``StudyMgtRS``, ``IocmRS``, ``OverwritePolicy``, 5.35).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from airflow_dicomweb.errors import ConfigurationError

METADATA_XML, FRAMES, RENDERED, BULK_DATA, METADATA = "metadata_xml", "frames", "rendered", "bulk_data", "metadata"
RETRIEVABLE = (METADATA, METADATA_XML, FRAMES, RENDERED, BULK_DATA)
"""What can be retrieved besides instances as they are stored; a server may lack some of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerHabits:
    """In what a server differs from others.

    :param name: As connections and clients name it.
    :param title: As messages name it.
    :param reports_conflicts: Refuses an instance when it has other bytes under its identity, and says so; accepts it
        when it has the same. Where not, existence is asked and bytes are compared before anything is sent.
    :param keeps_bytes: Gives an instance back byte for byte as it was sent.
    :param keeps_data_set: Gives the data set back byte for byte, whatever becomes of the preamble and of group 0002.
        Where not even that holds, elements are compared, however they are written.
    :param single_part: Takes and gives one instance without a multipart body around it.
    :param storage_classes: Storage classes that a request may ask for.
    :param takes_bulk_data: Makes an instance from JSON metadata and bulk data; others need it as a Part 10 file.
    :param takes_put: ``PUT studies`` stores what is there already, too, and replaces it.
    :param deletes: ``DELETE`` of a study, series or instance deletes it.
    :param deletes_by_operation: ... and for a study or series starts a long-running operation.
    :param own_way: How it deletes instead: what a message says to who tries.
    :param matches_uid_lists: Known to find any of several UIDs in one search, as the standard wants; one that is not is
        asked for each of them.
    :param decodes_queries: Known to read values of a query that came percent-encoded; of one that is not, what is not found
        is searched for again with wildcards in their place.
    :param searches_instances_of_study: Answers ``studies/{study}/instances``; others only know those of a series.
    :param one_at_a_time: Breaks when it gets a request while it stores.
    :param lacks: What of :data:`RETRIEVABLE` it does not have.
    """

    name: str = "standard"
    title: str = "this server"
    reports_conflicts: bool = False
    keeps_bytes: bool = True
    keeps_data_set: bool = True
    single_part: bool = False
    storage_classes: tuple[str, ...] = ()
    takes_bulk_data: bool = False
    takes_put: bool = False
    deletes: bool = False
    deletes_by_operation: bool = False
    own_way: str = (
        "the standard has no deletion. Set server to 'standard-with-delete' if it has one at DELETE studies/{study}, and "
        "dicom_store if it is the Cloud Healthcare API; Orthanc deletes by its REST API, dcm4chee wants a rejection first"
    )
    matches_uid_lists: bool = False
    decodes_queries: bool = False
    searches_instances_of_study: bool = True
    one_at_a_time: bool = False
    lacks: frozenset[str] = frozenset()


STANDARD = ServerHabits()
"""A server of which no more is known than that it follows the standard."""

DELETING = ServerHabits(
    name="standard-with-delete",
    title="a standard server that deletes at DELETE studies/{study} and below",
    deletes=True,
)
"""A server that follows the standard, and deletes as most do that add deletion to it."""

ORTHANC = ServerHabits(
    name="orthanc",
    title="Orthanc",
    matches_uid_lists=True,
    own_way="Orthanc answers 405 to it: use its REST API, POST /tools/lookup and then DELETE /studies/{id}",
)

GOOGLE = ServerHabits(
    name="google",
    title="a DICOM store of the Cloud Healthcare API",
    reports_conflicts=True,
    single_part=True,
    storage_classes=("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"),
    takes_bulk_data=True,
    deletes=True,
    deletes_by_operation=True,
    decodes_queries=True,
)

GOOGLE_BETA = replace(GOOGLE, name="google-v1beta1", title=f"{GOOGLE.title}, v1beta1", takes_put=True)

TINY_PACS = ServerHabits(
    name="tiny-pacs",
    title="tiny-pacs-dicomweb",
    # It refuses what it has with the reason for everything (0x0110), whatever the bytes are.
    reports_conflicts=False,
    keeps_bytes=False,
    decodes_queries=True,
    own_way="tiny-pacs-dicomweb answers 405 to it: use the administration of tiny-pacs",
    searches_instances_of_study=False,
    # Its database's tables are locked for readers while it writes: "database table is locked".
    one_at_a_time=True,
    lacks=frozenset(RETRIEVABLE),
)

DCM4CHEE = ServerHabits(
    name="dcm4chee",
    title="dcm4chee-arc",
    # It writes group 0002 anew, and gives data sets back with the attributes that its database has by then.
    keeps_bytes=False,
    keeps_data_set=False,
    takes_bulk_data=True,
    matches_uid_lists=True,
    decodes_queries=True,
    own_way=(
        "dcm4chee wants a rejection first, POST .../rs/studies/{study}/reject/113039^DCM, and deletes what is rejected: "
        "DELETE .../rs/studies/{study}"
    ),
)

SERVERS: Mapping[str, ServerHabits] = {
    habits.name: habits for habits in (STANDARD, DELETING, ORTHANC, GOOGLE, GOOGLE_BETA, TINY_PACS, DCM4CHEE)
}
"""The table: servers by the names that a connection may give."""


def named(server: object) -> ServerHabits:
    """Give the habits of a server by its name.

    :param server: A name of :data:`SERVERS`; upper case and underscores are fine.
    :raises ConfigurationError: If there is no such name.
    """
    key = server.strip().lower().replace("_", "-") if isinstance(server, str) else ""
    if key not in SERVERS:
        close = difflib.get_close_matches(key, SERVERS, 1)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigurationError(f"server must be one of {', '.join(SERVERS)}{meant}")
    return SERVERS[key]


def recognise(headers: Mapping[str, str]) -> ServerHabits | None:
    """Tell from the headers of an answer which server gave it, if they say so."""
    product = headers.get("Server", "").strip().lower()
    # A proxy may add its own name; Orthanc gives none, and dcm4chee that of its application server.
    return TINY_PACS if product.split("/")[0] == "tiny_pacs" else None
