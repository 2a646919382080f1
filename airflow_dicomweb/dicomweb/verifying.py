"""Looking again for what a server accepted.

Source: DICOM PS3.18 sections 10.4 (retrieve transaction) and 10.6 (search transaction).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from airflow_dicomweb.dicomweb.settling import StoreServer
from airflow_dicomweb.dicomweb.stow import InstanceOutcome
from airflow_dicomweb.errors import DicomWebError


class Verifier:
    """Verifies from any number of threads.

    :param server: Where to look.
    """

    def __init__(self, server: StoreServer) -> None:
        self._server = server

    def existence(self, accepted: Sequence[InstanceOutcome]) -> list[InstanceOutcome]:
        """Search again for accepted instances of one study, and fail those that are not found."""
        paths = [outcome.path for outcome in accepted if outcome.path]
        try:
            found = self._server.instances_of(paths[0].study)
        except DicomWebError as error:
            return [_not_verified(outcome, f"it cannot be searched for: {error}") for outcome in accepted]
        return [
            outcome
            if (path.series, path.instance) in found
            else _not_verified(outcome, "a search afterwards does not find it")
            for outcome, path in zip(accepted, paths, strict=True)
        ]

    def bytes(self, outcome: InstanceOutcome) -> list[InstanceOutcome]:
        """Fetch an accepted instance, and fail it if its bytes are not the ones that were sent."""
        try:
            stored = self._server.digest_of(outcome.path) if outcome.path else None
        except DicomWebError as error:
            return [_not_verified(outcome, f"it cannot be fetched: {error}")]
        if stored == outcome.sha256:
            return [outcome]
        finding = "is not there afterwards" if stored is None else "has other bytes now"
        return [_not_verified(outcome, f"it {finding}")]


def _not_verified(outcome: InstanceOutcome, finding: str) -> InstanceOutcome:
    reason = "; ".join(filter(None, (f"the server accepted it, but {finding}", outcome.reason)))
    return replace(outcome, outcome="failed", reason=reason, replaced=False)
