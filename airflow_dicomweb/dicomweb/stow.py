"""Values of the store transaction: the outcome of each source, and the result of a call.

Source: DICOM PS3.18 section 10.5 (store transaction).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from airflow_dicomweb.dicomweb.habits import ServerHabits
from airflow_dicomweb.dicomweb.qido import check_count
from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.dicomweb.uids import check_uid
from airflow_dicomweb.errors import ConfigurationError, StoreRefusedError

Outcome = Literal["created", "identical", "conflict", "failed", "skipped"]
ON_CONFLICT = ("fail", "keep", "replace")
VERIFY = ("response", "exists", "bytes")
CHECK = ("header", "structure")

_EXAMPLES = 10
_DISTINCT_REASONS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """How to store.

    :param study: Store into this study: instances of another one fail.
    :param workers: Requests at the same time, 1 or more.
    :param batch_bytes: Most bytes in one request; a larger instance goes alone.
    :param batch_count: Most instances in one request.
    :param storage_class: Of a DICOM store of the Cloud Healthcare API; None for its default.
    :param on_conflict: What becomes of an instance under whose identity the server has other bytes. ``fail`` and
        ``keep`` leave the server's, and differ in ``StoreResult.raise_for_failures``. ``replace`` stores it in their
        place: by ``PUT`` where the server has that, else by a deletion, and only with a backup.
    :param verify: How far to look: ``response`` believes the answers, ``exists`` searches afterwards for everything
        that was accepted, ``bytes`` fetches it again and compares.
    :param check: How closely to look before sending: ``header`` reads the identity, ``structure`` also sees whether the
        file is whole, and fails one that is cut short.
    :param checksums: Whether each outcome has the SHA-256 of the bytes that were sent.
    :param keep_outcomes: False for very many sources: the result then counts, and keeps no outcome but the first 1,000
        that were not stored.
    :raises ConfigurationError: If a value is out of its range.
    """

    study: str | None = None
    workers: int = 4
    batch_bytes: int = 64 * 2**20
    batch_count: int = 50
    storage_class: str | None = None
    on_conflict: str = "fail"
    verify: str = "response"
    check: str = "header"
    checksums: bool = False
    keep_outcomes: bool = True

    def __post_init__(self) -> None:
        if self.study is not None:
            check_uid(self.study, "StudyInstanceUID")
        for name in ("workers", "batch_bytes", "batch_count"):
            check_count(getattr(self, name), name, least=1)
        check_choice(self.on_conflict, "on_conflict", ON_CONFLICT)
        check_choice(self.verify, "verify", VERIFY)
        check_choice(self.check, "check", CHECK)

    def check_possible(self, habits: ServerHabits) -> None:
        """Make sure that a server can do it.

        :raises ConfigurationError: If it cannot.
        """
        if self.verify == "bytes" and not habits.keeps_bytes:
            raise ConfigurationError(
                f"verify='bytes' is not possible here: {habits.title} does not keep files as they come; verify='exists' is"
            )
        if self.storage_class is not None and not habits.storage_classes:
            raise ConfigurationError("storage_class is for DICOM stores of the Cloud Healthcare API only")
        if self.storage_class is not None:
            check_choice(self.storage_class, "storage_class", habits.storage_classes)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceOutcome:
    """What became of one source.

    :param source: Its name. Private: it may hold a patient's name, and belongs in reports only.
    :param ordinal: Its position in the listing.
    :param path: Its identity, or None if it could not be read.
    :param outcome: ``created``: stored now. ``identical``: the server had these bytes already. ``conflict``: the server
        has other bytes under this identity, and keeps them. ``failed``: not stored. ``skipped``: not DICOM.
    :param reason: Why it was not stored, or where the bytes are that it replaced; else an empty string.
    :param detail: The server's further words. Private: they may repeat a value of the data set.
    :param code: The server's FailureReason or HTTP status, if that is the reason.
    :param warning: WarningReason: it was stored, and the server changed it.
    :param replaced: It was created in the place of other bytes that the server had under its identity.
    :param bytes: Its size.
    :param seconds: How long its request took, whoever shared it; with what was asked to judge it. 0.0 if nothing was
        sent.
    :param sha256: SHA-256 of its bytes, in hexadecimal; empty if nobody asked for it and nothing needed it.
    :param version: Of its source: differs whenever the bytes under the same name do; empty if that is not known.
    :param earlier: It was settled by an earlier try of the same task; nothing was sent now.
    """

    source: str = field(repr=False)
    ordinal: int
    path: InstancePath | None
    outcome: Outcome
    reason: str = ""
    detail: str = field(default="", repr=False)
    code: int | None = None
    warning: int | None = None
    replaced: bool = False
    bytes: int = 0
    seconds: float = 0.0
    sha256: str = field(default="", repr=False)
    version: str = field(default="", repr=False)
    earlier: bool = False

    @property
    def is_stored(self) -> bool:
        """Whether the server holds these bytes now."""
        return self.outcome in {"created", "identical"}


@dataclass(slots=True)
class Tally:
    """Counts outcomes, however many there are; its size depends on the number of studies only."""

    counts: Counter[str] = field(default_factory=Counter)
    coerced: int = 0
    replaced: int = 0
    earlier: int = 0
    bytes: int = 0
    studies: set[str] = field(default_factory=set)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[str, list[InstanceOutcome]] = field(default_factory=dict)

    def add(self, outcome: InstanceOutcome) -> None:
        """Count one."""
        self.counts[outcome.outcome] += 1
        self.coerced += outcome.warning is not None
        self.replaced += outcome.replaced
        self.earlier += outcome.earlier
        if outcome.is_stored:
            self.bytes += outcome.bytes
            if outcome.path is not None:
                self.studies.add(outcome.path.study)
            return
        known = (outcome.outcome, outcome.reason)
        if known not in self.reasons and len(self.reasons) >= _DISTINCT_REASONS:
            known = (outcome.outcome, "other reasons")
        self.reasons[known] += 1
        shown = self.examples.setdefault(outcome.outcome, [])
        shown.append(outcome)
        shown.sort(key=lambda each: each.ordinal)
        del shown[_EXAMPLES:]

    def describe(self, kinds: AbstractSet[str]) -> str:
        """Say in words, without names, what was not stored."""
        counts = ", ".join(f"{self.counts[each]} {each}" for each in get_args(Outcome))
        refused, total = sum(self.counts[kind] for kind in kinds), sum(self.counts.values())
        reasons = Counter({f"{kind}: {reason}": n for (kind, reason), n in self.reasons.items() if kind in kinds})
        examples = sorted((each for kind in kinds for each in self.examples.get(kind, ())), key=lambda it: it.ordinal)
        lines = [f"{refused} of {total} sources were not stored ({counts})"]
        lines += [f"{count} x {reason}" for reason, count in reasons.most_common(5)]
        lines += [
            f"source {each.ordinal}, {each.path or 'no identity'}: {each.reason}" for each in examples[:_EXAMPLES]
        ]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class StoreResult:
    """What became of everything that was given to one store call: each source has exactly one outcome.

    :param outcomes: In the order of the listing. Of a call with ``keep_outcomes=False``: the first ones that were not
        stored, up to 1,000.
    :param seconds: How long the call took.
    :param tally: Counts of all outcomes; made from ``outcomes`` if it is not given.
    """

    outcomes: tuple[InstanceOutcome, ...]
    seconds: float = 0.0
    tally: Tally = field(default_factory=Tally, repr=False)

    def __post_init__(self) -> None:
        if not self.tally.counts:
            for each in self.outcomes:
                self.tally.add(each)

    @property
    def total(self) -> int:
        """All sources."""
        return sum(self.tally.counts.values())

    @property
    def created(self) -> int:
        """Instances stored now."""
        return self.tally.counts["created"]

    @property
    def identical(self) -> int:
        """Instances whose very bytes the server had already."""
        return self.tally.counts["identical"]

    @property
    def conflict(self) -> int:
        """Instances under whose identity the server has other bytes, and keeps them."""
        return self.tally.counts["conflict"]

    @property
    def failed(self) -> int:
        """Instances that were not stored, for another reason than a conflict."""
        return self.tally.counts["failed"]

    @property
    def skipped(self) -> int:
        """Sources that are no instances: not DICOM, or a DICOMDIR."""
        return self.tally.counts["skipped"]

    @property
    def coerced(self) -> int:
        """Stored instances that the server says it changed; they are counted as created or identical too."""
        return self.tally.coerced

    @property
    def replaced(self) -> int:
        """Instances stored in the place of other bytes; they are counted as created too."""
        return self.tally.replaced

    @property
    def bytes(self) -> int:
        """Total size of the created and identical instances."""
        return self.tally.bytes

    @property
    def studies(self) -> tuple[str, ...]:
        """Study Instance UIDs of the created and identical instances, sorted, each once."""
        return tuple(sorted(self.tally.studies))

    def raise_for_failures(self, max_failures: int = 0, on_conflict: str = "fail") -> None:
        """Do nothing if enough was stored; raise otherwise.

        :param max_failures: Instances not stored that are tolerated, 0 or more.
        :param on_conflict: ``fail`` and ``replace`` count conflicts as not stored, ``keep`` accepts that the server keeps
            what it has.
        :raises StoreRefusedError: If more were not stored. Its message has numbers, UIDs and reasons, no names.
        """
        kept = check_choice(on_conflict, "on_conflict", ON_CONFLICT) == "keep"
        kinds = {"failed"} if kept else {"failed", "conflict"}
        if sum(self.tally.counts[kind] for kind in kinds) > max_failures:
            raise StoreRefusedError(self.tally.describe(kinds), self)

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
