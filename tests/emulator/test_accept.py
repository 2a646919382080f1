"""Accept headers, route by route: one instance asked for in many ways."""

from __future__ import annotations

import pytest

from tests.emulator.api import FURTHER, PYDICOM_FILES, VECTORS, envelope

ACCEPTED = [
    *(case for case in VECTORS["accept"] if case["op"] in {"search", "metadata"}),
    *FURTHER["accept"]["cases"],
]


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: f"{case['op']}-{case['accept']}")
def test_the_accept_header_decides_the_answer(api, case):
    body = (PYDICOM_FILES / "MR_small_RLE.dcm").read_bytes()
    if case["op"] == "store":
        answer = api.store(body, accept=case["accept"])
    else:
        api.store(body)
        study, _, _ = who = api.tuples()[0]
        place = "studies/{}/series/{}/instances/{}".format(*who)
        path = {
            "search": "instances",
            "metadata": f"{place}/metadata",
            "retrieveStudy": f"studies/{study}",
            "retrieveInstance": place,
            "rendered": f"{place}/rendered",
            "frames": f"{place}/frames/1",
            "bulkdata": f"{place}/bulkdata/7FE00010",
        }[case["op"]]
        answer = api.get(path, case["accept"])
    if case["returns"] == 406:
        envelope(answer, 406)
    else:
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"].startswith(case["returns"])
