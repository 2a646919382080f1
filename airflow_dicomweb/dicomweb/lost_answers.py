"""Looking for instances that were sent and whose answer was lost, or cannot be read: the server may have stored them.

What is found is fetched and compared: it need not be what was sent. What cannot be searched for stays open, and is said
to be.

Source: DICOM PS3.18 section 10.5 (store transaction).
"""

from __future__ import annotations

from collections.abc import Sequence

from airflow_dicomweb.dicomweb.batches import SourceFailed, outcome_of
from airflow_dicomweb.dicomweb.replacing import say_replaced
from airflow_dicomweb.dicomweb.settling import CONFLICT, LostAnswer, StoreServer, UnclearAnswerError, is_unusable
from airflow_dicomweb.dicomweb.stow import InstanceOutcome
from airflow_dicomweb.errors import DicomWebError, ResponseError


class Lookup:
    """Looks for instances from any number of threads, once each.

    :param server: Where.
    """

    def __init__(self, server: StoreServer) -> None:
        self._server = server
        self._unusable = False
        self.answered = False
        """An instance's fate was found out."""

    def look_for(self, lost: Sequence[LostAnswer]) -> list[InstanceOutcome]:
        """Give the outcomes of instances of one study."""
        if self._unusable:
            return [_open(each) for each in lost]
        try:
            found = self._server.instances_of(lost[0][0].path.study)
        except DicomWebError as error:
            # A server that is gone costs a whole retry budget each time it is asked.
            self._unusable |= is_unusable(error)
            return [_open(each) for each in lost]
        return [
            self._compared(each) if (each[0].path.series, each[0].path.instance) in found else _absent(each)
            for each in lost
        ]

    def _compared(self, lost: LostAnswer) -> InstanceOutcome:
        item = lost[0]
        if self._unusable:
            return _open(lost)
        try:
            same = self._server.has_same(item)
        except SourceFailed as finding:
            return _failed(lost, f"{finding}, and it may be stored or not")
        except DicomWebError as error:
            self._unusable |= is_unusable(error)
            return _open(lost)
        if same is None:
            return _open(lost)
        self.answered = True
        if same:
            say_replaced(item)
            return outcome_of(item, "identical" if item.existed else "created")
        return outcome_of(item, "conflict", reason=CONFLICT)


def _open(lost: LostAnswer) -> InstanceOutcome:
    return _failed(lost, "it may be stored or not")


def _absent(lost: LostAnswer) -> InstanceOutcome:
    if isinstance(lost[1], UnclearAnswerError):
        return _with_reason(lost, f"{lost[1]}; a search afterwards does not find it")
    return _failed(lost, "not stored, a search afterwards does not find it")


def _failed(lost: LostAnswer, finding: str) -> InstanceOutcome:
    return _with_reason(lost, f"{finding}: {lost[1]}")


def _with_reason(lost: LostAnswer, reason: str) -> InstanceOutcome:
    item, error = lost
    status = error.status if isinstance(error, ResponseError | UnclearAnswerError) else None
    return outcome_of(item, "failed", reason=reason, code=status)
