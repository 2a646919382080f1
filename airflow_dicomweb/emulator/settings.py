"""Switches: how the emulator behaves where the service's documents are silent, or disagree.

Source: Cloud Healthcare API, DICOM conformance statement and "Best practices for long-running operations".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from airflow_dicomweb.emulator.messages import ApiError

_LONGEST = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What can be switched.

    :param operation_seconds: How long operations take at least that are started from now on.
    :param empty_search_status: Status of a search that finds nothing: 204 without a body, or 200 with an empty list.
    :param missing_status: Status of what is not there: 404, or 403 as for what the caller may not see.
    :param partial_failure: What an operation has when some items failed: ``error``, or ``response``; counters in any case.
    :param search_limits: ``reject`` a ``limit`` or ``offset`` over the maximum, or ``clamp`` it.
    :param unknown_attribute: ``reject`` a search by an attribute that is not documented, or ``ignore`` that condition.
    :param plain_study_delete: Whether v1beta1 deletes a study at once and answers ``{}``, as in 2019.
    :param missing_topic: What happens when a notification is for a topic that is not there: ``reject`` the call that would
        send it, or ``ignore`` that it cannot be sent.
    :param rejected_tokens: Tokens that are answered with 401.
    """

    operation_seconds: float = 0.0
    empty_search_status: int = 204
    missing_status: int = 404
    partial_failure: str = "error"
    search_limits: str = "reject"
    unknown_attribute: str = "reject"
    plain_study_delete: bool = False
    missing_topic: str = "reject"
    rejected_tokens: list[str] = field(default_factory=list)

    def changed(self, asked: object) -> Settings:
        """Give the settings with some of them changed.

        :param asked: Names and values, as parsed from JSON.
        :raises ApiError: 400 if there is no such setting, or not of that value.
        """
        if not isinstance(asked, Mapping) or not asked:
            raise ApiError(400, "a JSON object of settings is expected")
        unknown = set(asked) - set(_VALUES)
        if unknown:
            raise ApiError(400, f"there is no setting {', '.join(sorted(map(str, unknown)))}")
        for name, value in asked.items():
            words, fits = _VALUES[name]
            if not fits(value):
                raise ApiError(400, f"{name} must be {words}")
        return replace(self, **{str(name): value for name, value in asked.items()})

    def to_json(self) -> dict[str, Any]:
        """Give them all."""
        return asdict(self)


def _one_of(*values: object) -> tuple[str, Callable[[Any], bool]]:
    return " or ".join(map(repr, values)), lambda value: any(type(v) is type(value) and v == value for v in values)


_VALUES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "operation_seconds": (
        f"a number of seconds from 0 to {_LONGEST:.0f}",
        lambda value: type(value) in {int, float} and 0 <= value <= _LONGEST,
    ),
    "empty_search_status": _one_of(204, 200),
    "missing_status": _one_of(404, 403),
    "partial_failure": _one_of("error", "response"),
    "search_limits": _one_of("reject", "clamp"),
    "unknown_attribute": _one_of("reject", "ignore"),
    "plain_study_delete": ("true or false", lambda value: isinstance(value, bool)),
    "missing_topic": _one_of("reject", "ignore"),
    "rejected_tokens": (
        "a list of texts",
        lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    ),
}
