"""DICOM unique identifiers: checked before they become a path, a URL or a file name.

``requests`` normalises paths: a DELETE of ``.../series/..`` would become a DELETE of the study. So nothing but digits
and single dots ever gets past this module.

Source: DICOM PS3.5 section 9.1 (at most 64 characters, components of digits separated by dots).
"""

from __future__ import annotations

import re

from airflow_dicomweb.errors import ConfigurationError

MAX_UID_LENGTH = 64

_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_LEADING_ZERO = re.compile(r"(?:^|\.)0[0-9]")


def is_uid(value: object) -> bool:
    """Tell whether a value is a usable UID: 1 to 64 characters, digits in components joined by single dots.

    Leading zeros in a component are against PS3.5, but servers hold such studies, so they count as usable.
    """
    return isinstance(value, str) and 0 < len(value) <= MAX_UID_LENGTH and _UID.fullmatch(value) is not None


def has_leading_zero(uid: str) -> bool:
    """Tell whether a component of the UID starts with a needless zero, which PS3.5 forbids."""
    return _LEADING_ZERO.search(uid) is not None


def check_uid(value: object, what: str = "UID") -> str:
    """Return the value if it is a usable UID.

    :param value: What the caller gave.
    :param what: Name of the argument, for the message.
    :raises ConfigurationError: If it is anything else; nothing was sent then.
    """
    if isinstance(value, str) and is_uid(value):
        return value
    raise ConfigurationError(
        f"{what} {_shown(value)} is not a DICOM UID: 1 to {MAX_UID_LENGTH} characters are accepted, digits in "
        "components joined by single dots, such as '1.2.840.10008.1'"
    )


def _shown(value: object) -> str:
    """Show enough of a bad value to find it, never a whole data set value that ended up in the wrong place."""
    if value is None:
        return "None"
    if not isinstance(value, str):
        return f"of type {type(value).__name__}"
    if len(value) > MAX_UID_LENGTH:
        return f"of {len(value)} characters"
    if len(value) <= 3 or re.fullmatch(r"[0-9.]+", value):
        return repr(value)
    return "with other characters than digits and dots"
