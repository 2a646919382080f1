"""The README's table of servers is what a run gives, and the table of habits says the same."""

from __future__ import annotations

import re

import pytest

from airflow_dicomweb.dicomweb.habits import BULK_DATA, FRAMES, METADATA, METADATA_XML, RENDERED, SERVERS
from airflow_dicomweb.emulator import Emulator
from tests.servers import table
from tests.servers.every import server_of
from tests.servers.orthanc import Orthanc
from tests.servers.tiny_pacs import TinyPacs

ROWS = {
    METADATA: "metadata, JSON",
    METADATA_XML: "metadata, XML",
    FRAMES: "frames",
    RENDERED: "rendered",
    BULK_DATA: "bulk data",
}


@pytest.fixture(scope="module")
def made(
    dicomweb_emulator_server: Emulator,
    orthanc: Orthanc,
    tiny_pacs: TinyPacs,
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """The table, asked of the servers that run."""
    servers = table.heads(server_of(dicomweb_emulator_server), server_of(orthanc), server_of(tiny_pacs))
    return table.run(servers, tmp_path_factory.mktemp("probes"))


def columns(text: str) -> list[dict[str, str]]:
    """Read a table: rows and cells of each column."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return [{row[0]: row[number] for row in rows[2:]} for number in range(1, len(rows[0]))]


def without_versions(text: str) -> str:
    """Leave out the versions in the head: another Orthanc that does the same makes no other table."""
    head, separator, rest = text.partition("\n|---")
    return re.sub(r" \d+(\.\d+)+", "", head) + separator + rest


def test_the_table_in_the_readme_is_what_a_run_gives(made: str) -> None:
    assert without_versions(table.in_readme(table.README.read_text())) == without_versions(made), "run: make servers"


@pytest.mark.parametrize(("column", "server"), [*enumerate(["google", "orthanc", "tiny-pacs", "dcm4chee"])])
def test_the_habits_that_the_client_acts_on_are_those_that_servers_have(made: str, column: int, server: str) -> None:
    does, habits = columns(made)[column], SERVERS[server]
    kept = does["comes back as it was sent"]
    assert habits.keeps_bytes is (kept == "byte for byte")
    assert habits.keeps_data_set is (kept in {"byte for byte", "the data set"})
    assert habits.single_part is (does["one instance without multipart"] == "yes")
    reported = does["the same again"] == "accepted" and does["other bytes, same UIDs"].startswith("refused")
    assert habits.reports_conflicts is reported
    assert habits.searches_instances_of_study is (does["instances of a study in one search"] == "yes")
    assert habits.takes_bulk_data is (does["create an instance"] == "from JSON and bulk data")
    assert habits.deletes is (does["delete"] == "yes")
    assert habits.lacks == {kind for kind, row in ROWS.items() if does[row] == "no"}
    assert {does[row] for row in ("store", "retrieve")} == {"yes"}
