"""Values of the store transaction: the outcome of each source, and the result of a call.

Source: DICOM PS3.18 section 10.5 (store transaction).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.errors import ConfigurationError, StoreRefusedError

Outcome = Literal["created", "identical", "conflict", "failed", "skipped"]
ON_CONFLICT = ("fail", "keep")
VERIFY = ("response", "exists", "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceOutcome:
    """What became of one source.

    :param source: Its name. Private: it may hold a patient's name, and belongs in reports only.
    :param ordinal: Its position in the listing.
    :param path: Its identity, or None if it could not be read.
    :param outcome: ``created``: stored now. ``identical``: the server had these bytes already. ``conflict``: the server
        has other bytes under this identity, and keeps them. ``failed``: not stored. ``skipped``: not DICOM.
    :param reason: Why it was not stored, or an empty string.
    :param detail: The server's further words. Private: they may repeat a value of the data set.
    :param code: The server's FailureReason or HTTP status, if that is the reason.
    :param warning: WarningReason: it was stored, and the server changed it.
    :param bytes: Its size.
    :param sha256: SHA-256 of its bytes, in hexadecimal; empty if they were never read whole.
    """

    source: str = field(repr=False)
    ordinal: int
    path: InstancePath | None
    outcome: Outcome
    reason: str = ""
    detail: str = field(default="", repr=False)
    code: int | None = None
    warning: int | None = None
    bytes: int = 0
    sha256: str = field(default="", repr=False)

    @property
    def is_stored(self) -> bool:
        """Whether the server holds these bytes now."""
        return self.outcome in {"created", "identical"}


@dataclass(frozen=True, slots=True)
class StoreResult:
    """What became of everything that was given to one store call: each source has exactly one outcome.

    :param outcomes: In the order of the listing.
    :param seconds: How long the call took.
    """

    outcomes: tuple[InstanceOutcome, ...]
    seconds: float = 0.0

    def _count(self, outcome: Outcome) -> int:
        return sum(each.outcome == outcome for each in self.outcomes)

    @property
    def created(self) -> int:
        """Instances stored now."""
        return self._count("created")

    @property
    def identical(self) -> int:
        """Instances whose very bytes the server had already."""
        return self._count("identical")

    @property
    def conflict(self) -> int:
        """Instances under whose identity the server has other bytes, and keeps them."""
        return self._count("conflict")

    @property
    def failed(self) -> int:
        """Instances that were not stored, for another reason than a conflict."""
        return self._count("failed")

    @property
    def skipped(self) -> int:
        """Sources that are no instances: not DICOM, or a DICOMDIR."""
        return self._count("skipped")

    @property
    def coerced(self) -> int:
        """Stored instances that the server says it changed; they are counted as created or identical too."""
        return sum(each.warning is not None for each in self.outcomes)

    @property
    def bytes(self) -> int:
        """Total size of the created and identical instances."""
        return sum(each.bytes for each in self._stored())

    @property
    def studies(self) -> tuple[str, ...]:
        """Study Instance UIDs of the created and identical instances, sorted, each once."""
        return tuple(sorted({each.path.study for each in self._stored() if each.path}))

    def _stored(self) -> Iterator[InstanceOutcome]:
        return (each for each in self.outcomes if each.is_stored)

    def raise_for_failures(self, max_failures: int = 0, on_conflict: str = "fail") -> None:
        """Do nothing if enough was stored; raise otherwise.

        :param max_failures: Instances not stored that are tolerated, 0 or more.
        :param on_conflict: ``fail`` counts conflicts as not stored, ``keep`` accepts that the server keeps what it has.
        :raises StoreRefusedError: If more were not stored. Its message has numbers, UIDs and reasons, no names.
        """
        counted = (
            {"failed"} if check_choice(on_conflict, "on_conflict", ON_CONFLICT) == "keep" else {"failed", "conflict"}
        )
        refused = [each for each in self.outcomes if each.outcome in counted]
        if len(refused) > max_failures:
            raise StoreRefusedError(self._describe(refused), self)

    def _describe(self, refused: list[InstanceOutcome]) -> str:
        reasons = Counter(f"{each.outcome}: {each.reason}" for each in refused)
        counts = ", ".join(f"{self._count(each)} {each}" for each in get_args(Outcome))
        lines = [f"{len(refused)} of {len(self.outcomes)} sources were not stored ({counts})"]
        lines += [f"{count} x {reason}" for reason, count in reasons.most_common(5)]
        lines += [f"source {each.ordinal}, {each.path or 'no identity'}: {each.reason}" for each in refused[:10]]
        return "\n".join(lines)

    def to_xcom(self, report_uri: str | None = None) -> dict[str, Any]:
        """Give the result of an operator: builtins only, bounded, at most 100 study UIDs."""
        studies = self.studies
        return {
            "created": self.created,
            "identical": self.identical,
            "conflict": self.conflict,
            "failed": self.failed,
            "skipped": self.skipped,
            "coerced": self.coerced,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "studies": list(studies[:100]),
            "study_count": len(studies),
            "report_uri": report_uri,
        }


def check_choice(value: object, name: str, choices: tuple[str, ...]) -> str:
    """Return the value if it is one of the choices.

    :raises ConfigurationError: If it is not; the message names them.
    """
    if isinstance(value, str) and value in choices:
        return value
    raise ConfigurationError(f"{name} must be one of: {', '.join(map(repr, choices))}")
