"""One try of a store task on its way: each outcome goes to the report and the task's record as soon as it is final.

Source: design of this package.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Self

from airflow_dicomweb.dicomweb.retries import add_to_message
from airflow_dicomweb.dicomweb.sources import Source
from airflow_dicomweb.dicomweb.stow import InstanceOutcome
from airflow_dicomweb.errors import DicomWebError
from airflow_dicomweb.operators._earlier import EarlierOutcomes
from airflow_dicomweb.operators._outcome_lines import line_of
from airflow_dicomweb.operators._running_report import RunningReport, cause
from airflow_dicomweb.operators._store_tries import StoreTries

log = logging.getLogger(__name__)


class StoreProgress:
    """Keeps what is known of a try; on leaving early it is kept for the next one.

    :param tries: The task's record.
    :param report: The report, or None.
    """

    def __init__(self, tries: StoreTries, report: RunningReport | None) -> None:
        self._tries, self._report = tries, report
        self._earlier: EarlierOutcomes | None = None
        self._error: OSError | DicomWebError | None = None
        self._done = False
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self._tries.goes_on and self._report is not None:
            lines = _readable(self._report)
            self._earlier = self._stack.enter_context(EarlierOutcomes(lines, self._tries.run))
            log.info("An earlier try has stored %d sources", len(self._earlier))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()
        if self._report is not None and not self._done:
            self._report.abandon()
        if exc_info[0] is not None and self._tries.began:
            self._tries.write()

    def find(self, source: Source) -> InstanceOutcome | None:
        """Give the outcome that a source had in an earlier try."""
        return self._earlier.find(source) if self._earlier is not None else self._tries.find(source)

    def add(self, outcome: InstanceOutcome) -> None:
        """Take an outcome. That it cannot be written is said in the end: what is under way goes on."""
        self._tries.add(outcome)
        if self._report is None or self._error is not None:
            return
        try:
            self._report.write(line_of(outcome, self._tries.run))
        except (OSError, DicomWebError) as error:
            log.warning("The report cannot be written any more; the instances are stored all the same")
            self._error = error

    def finish(self, done: str) -> None:
        """Make the lines the report.

        :param done: What was done, for the message of an error: it is done all the same.
        :raises DicomWebError: If there is no whole report.
        """
        if self._report is None:
            return
        try:
            if self._error is not None:
                raise self._error
            self._report.finish()
            self._done = True
        except OSError as error:
            raise DicomWebError(f"the report could not be written: {cause(error)}; {done}") from None
        except DicomWebError as error:
            add_to_message(error, f"the report could not be written; {done}")
            raise


def _readable(report: RunningReport) -> Iterator[Any]:
    """Give what earlier tries have left, as far as it can be read: what is not known of is sent again."""
    try:
        yield from report.earlier()
    except (OSError, DicomWebError):
        log.warning("What earlier tries have left cannot be read to its end")
