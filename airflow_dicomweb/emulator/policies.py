"""IAM policies of datasets and DICOM stores: kept and given back. Nobody is refused for them.

Source: Cloud Healthcare API v1 discovery document, ``getIamPolicy``, ``setIamPolicy``, ``testIamPermissions``; google.iam.v1.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from starlette.responses import Response

from airflow_dicomweb.emulator.messages import ApiError, json_answer
from airflow_dicomweb.emulator.proto_json import Fields, read_message
from airflow_dicomweb.emulator.service import Call

_CONDITION: Fields = {"expression": str, "title": str, "description": str, "location": str}
_AUDIT: Fields = {"service": str, "auditLogConfigs": [{"logType": str, "exemptedMembers": [str]}]}
POLICY: Fields = {
    "version": int,
    "bindings": [{"role": str, "members": [str], "condition": _CONDITION}],
    "auditConfigs": [_AUDIT],
    "etag": str,
}


def get_policy(call: Call) -> Response:
    """Give the policy of a dataset or store: an empty one, if none was set."""
    return json_answer(_kept(call, _resource(call)))


def set_policy(call: Call) -> Response:
    """Keep a policy; the one that it replaces is known by its etag."""
    resource = _resource(call)
    body = read_message(call.body, {"policy": POLICY, "updateMask": str})
    policy = body.get("policy", {})
    known = _kept(call, resource)
    if policy.get("etag", known["etag"]) != known["etag"]:
        raise ApiError(409, "There were concurrent policy changes: read the policy again.", "ABORTED")
    kept = {key: value for key, value in policy.items() if key != "etag" and value not in ("", {}, [], 0)}
    with call.service.instances.database.writing() as index:
        index.execute("INSERT OR REPLACE INTO policies (resource, body) VALUES (?, ?)", [resource, json.dumps(kept)])
    return json_answer(_kept(call, resource))


def test_permissions(call: Call) -> Response:
    """Give the permissions that the caller has: all that were asked for."""
    _resource(call)
    asked = read_message(call.body, {"permissions": [str]}).get("permissions", [])
    if any("*" in permission for permission in asked):
        raise ApiError(400, "Permissions with wildcards are not allowed.")
    return json_answer({"permissions": asked} if asked else {})


def _resource(call: Call) -> str:
    """Give the name of the dataset or store in the path.

    :raises ApiError: 404 if it is not there.
    """
    if "store" in call.names:
        call.store_row()
        return call.store
    call.service.stores.check_dataset(call.dataset)
    return call.dataset


def _kept(call: Call, resource: str) -> dict[str, Any]:
    with call.service.instances.database.reading() as index:
        row = index.execute("SELECT body FROM policies WHERE resource = ?", [resource]).fetchone()
    text = "{}" if row is None else str(row["body"])
    digest = hashlib.sha256(f"{resource} {text}".encode()).digest()[:8]
    return {**json.loads(text), "etag": base64.b64encode(digest).decode("ascii")}
