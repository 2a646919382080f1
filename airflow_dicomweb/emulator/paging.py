"""Lists, page by page.

Source: Cloud Healthcare API v1 discovery document (``pageSize``, ``pageToken``, ``nextPageToken``).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from airflow_dicomweb.emulator.messages import ApiError
from airflow_dicomweb.emulator.service import Call

_DEFAULT_SIZE = 100


def page_of(call: Call, field: str, items: Sequence[Any], largest: int) -> dict[str, Any]:
    """Give the page that the query asks for.

    :param field: Name of the list in the answer; an empty one is left out, as the proto3 mapping leaves it out.
    :param largest: Most items in a page; more may be asked for, and are not given.
    :raises ApiError: 400 if the size or the token cannot be.
    """
    asked = call.count("pageSize", 0, 10**9 - 1)
    size = min(asked or _DEFAULT_SIZE, largest)
    start = _position(call.parameter("pageToken"))
    page: dict[str, Any] = {}
    if items[start : start + size]:
        page[field] = list(items[start : start + size])
    if start + size < len(items):
        page["nextPageToken"] = base64.urlsafe_b64encode(b"after %d" % (start + size)).decode("ascii")
    return page


def _position(token: str) -> int:
    if not token:
        return 0
    try:
        word, _, number = base64.urlsafe_b64decode(token).decode("ascii").partition(" ")
        if word == "after":
            return max(int(number), 0)
    except (binascii.Error, ValueError):
        pass
    raise ApiError(400, "invalid pageToken: a nextPageToken of the same list is expected")
