"""All routes, in one table; and all that the service has and the emulator has not, in another.

Source: Cloud Healthcare API v1 and v1beta1 and Cloud Pub/Sub API v1 discovery documents; DICOM PS3.18 section 10.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import unquote

from starlette.responses import Response

from airflow_dicomweb.emulator import (
    bulk_data,
    frames,
    metrics,
    operations,
    policies,
    pubsub_routes,
    qido,
    rendered,
    resources,
    storage_class,
    wado,
)
from airflow_dicomweb.emulator.messages import ApiError
from airflow_dicomweb.emulator.service import Call

Handler = Callable[[Call], Response]

_LOCATION = "/{version}/projects/{project}/locations/{location}"
_DATASET = f"{_LOCATION}/datasets/{{dataset}}"
_STORE = f"{_DATASET}/dicomStores/{{store}}"
_WEB = f"{_STORE}/dicomWeb"
_STUDY = f"{_WEB}/studies/{{study}}"
_SERIES = f"{_STUDY}/series/{{series}}"
_INSTANCE = f"{_SERIES}/instances/{{instance}}"
_TOPICS = "/{version}/projects/{project}/topics"
_TOPIC = f"{_TOPICS}/{{topic}}"
_SUBSCRIPTIONS = "/{version}/projects/{project}/subscriptions"
_SUBSCRIPTION = f"{_SUBSCRIPTIONS}/{{subscription}}"
_ANY = "{any}"
_STABLE = ("v1",)
_BETA = ("v1beta1",)
_BOTH = ("v1", *_BETA)


@dataclass(frozen=True, slots=True)
class Route:
    """One route.

    :param handler: What answers it; None for a store transaction, whose body is read as it comes.
    :param versions: The versions that have it.
    """

    method: str
    pattern: re.Pattern[str]
    handler: Handler | None
    versions: tuple[str, ...] = _BOTH


def _route(method: str, template: str, handler: Handler | None, versions: tuple[str, ...] = _BOTH) -> Route:
    return Route(method, _pattern(template), handler, versions)


def _pattern(template: str) -> re.Pattern[str]:
    """Turn a template into an expression; ids hold no colon, so that ``:verb`` is never part of one."""
    shapes = {"version": "v1|v1beta1", "project": "[^/]+", "any": ".*"}
    shapes |= {"other": "fhir|hl7V2|consent|annotation", "pubsub": "topics|subscriptions|snapshots|schemas"}
    parts = re.split(r"\{(\w+)\}", template)
    return re.compile(
        "".join(
            f"(?P<{part}>{shapes.get(part, '[^/:]+')})" if index % 2 else re.escape(part)
            for index, part in enumerate(parts)
        )
    )


def _iam(template: str) -> tuple[Route, ...]:
    return (
        _route("GET", f"{template}:getIamPolicy", policies.get_policy),
        _route("POST", f"{template}:setIamPolicy", policies.set_policy),
        _route("POST", f"{template}:testIamPermissions", policies.test_permissions),
    )


ROUTES: Final = (
    _route("POST", f"{_LOCATION}/datasets", resources.create_dataset),
    _route("GET", f"{_LOCATION}/datasets", resources.list_datasets),
    _route("GET", _DATASET, resources.get_dataset),
    _route("PATCH", _DATASET, resources.patch_dataset),
    _route("DELETE", _DATASET, resources.delete_dataset),
    *_iam(_DATASET),
    _route("GET", f"{_DATASET}/operations", operations.list_operations),
    _route("GET", f"{_DATASET}/operations/{{operation}}", operations.get_operation),
    _route("POST", f"{_DATASET}/operations/{{operation}}:cancel", operations.cancel_operation),
    _route("POST", f"{_DATASET}/dicomStores", resources.create_store),
    _route("GET", f"{_DATASET}/dicomStores", resources.list_stores),
    _route("GET", _STORE, resources.get_store),
    _route("PATCH", _STORE, resources.patch_store),
    _route("DELETE", _STORE, resources.delete_store),
    *_iam(_STORE),
    _route("GET", f"{_STORE}:getDICOMStoreMetrics", metrics.store_metrics),
    _route("GET", f"{_STUDY}:getStudyMetrics", metrics.study_metrics),
    _route("GET", f"{_SERIES}:getSeriesMetrics", metrics.series_metrics),
    _route("GET", f"{_INSTANCE}:getStorageInfo", metrics.storage_info),
    *(
        _route("POST", f"{template}:setBlobStorageSettings", storage_class.set_storage_class)
        for template in (_STORE, _STUDY, _SERIES, _INSTANCE)
    ),
    _route("POST", f"{_STORE}:import", operations.start_import),
    _route("POST", f"{_STORE}:export", operations.start_export),
    _route("POST", f"{_WEB}/studies", None),
    _route("POST", _STUDY, None),
    _route("PUT", f"{_WEB}/studies", None, _BETA),
    _route("PUT", _STUDY, None, _BETA),
    _route("GET", f"{_WEB}/studies", partial(qido.search, level="studies")),
    _route("GET", f"{_WEB}/series", partial(qido.search, level="series")),
    _route("GET", f"{_WEB}/instances", partial(qido.search, level="instances")),
    _route("GET", f"{_STUDY}/series", partial(qido.search, level="series")),
    _route("GET", f"{_STUDY}/instances", partial(qido.search, level="instances")),
    _route("GET", f"{_SERIES}/instances", partial(qido.search, level="instances")),
    _route("GET", _STUDY, wado.retrieve),
    _route("GET", _SERIES, wado.retrieve),
    _route("GET", _INSTANCE, wado.retrieve),
    _route("GET", f"{_STUDY}/metadata", wado.retrieve_metadata),
    _route("GET", f"{_SERIES}/metadata", wado.retrieve_metadata),
    _route("GET", f"{_INSTANCE}/metadata", wado.retrieve_metadata),
    _route("GET", f"{_INSTANCE}/rendered", rendered.retrieve_rendered),
    _route("GET", f"{_INSTANCE}/frames/{{frames}}", frames.retrieve_frames),
    _route("GET", f"{_INSTANCE}/frames/{{frames}}/rendered", rendered.retrieve_rendered),
    _route("GET", f"{_INSTANCE}/bulkdata/{_ANY}", bulk_data.retrieve_bulk_data),
    _route("DELETE", _STUDY, operations.delete),
    _route("DELETE", _SERIES, operations.delete),
    _route("DELETE", _INSTANCE, operations.delete),
    _route("GET", _TOPICS, pubsub_routes.list_topics, _STABLE),
    _route("PUT", _TOPIC, pubsub_routes.create_topic, _STABLE),
    _route("GET", _TOPIC, pubsub_routes.get_topic, _STABLE),
    _route("DELETE", _TOPIC, pubsub_routes.delete_topic, _STABLE),
    _route("POST", f"{_TOPIC}:publish", pubsub_routes.publish, _STABLE),
    _route("GET", f"{_TOPIC}/subscriptions", pubsub_routes.list_subscriptions_of_topic, _STABLE),
    _route("GET", _SUBSCRIPTIONS, pubsub_routes.list_subscriptions, _STABLE),
    _route("PUT", _SUBSCRIPTION, pubsub_routes.create_subscription, _STABLE),
    _route("GET", _SUBSCRIPTION, pubsub_routes.get_subscription, _STABLE),
    _route("DELETE", _SUBSCRIPTION, pubsub_routes.delete_subscription, _STABLE),
    _route("POST", f"{_SUBSCRIPTION}:pull", pubsub_routes.pull, _STABLE),
    _route("POST", f"{_SUBSCRIPTION}:acknowledge", pubsub_routes.acknowledge, _STABLE),
    _route("POST", f"{_SUBSCRIPTION}:modifyAckDeadline", pubsub_routes.modify_ack_deadline, _STABLE),
)

NOT_EMULATED: Final = (
    ("POST", f"{_DATASET}:deidentify", "de-identification of a dataset"),
    ("POST", f"{_STORE}:deidentify", "de-identification of a DICOM store"),
    ("PATCH", f"{_STUDY}/{_ANY}", "changing metadata (v1beta1)"),
    ("*", f"{_DATASET}/{{other}}Stores{_ANY}", "FHIR, HL7v2, consent and annotation stores"),
    (
        "*",
        f"/{{version}}/projects/{{project}}/{{pubsub}}{_ANY}",
        "Pub/Sub beyond topics and pulled subscriptions: changes, push, filters, order, seek, snapshots, schemas, policies",
    ),
)
"""What the service has and the emulator answers with 501: method, path, and what it is."""

_MISSING: Final = tuple((method, _pattern(template), what) for method, template, what in NOT_EMULATED)


def find_route(method: str, raw_path: str) -> tuple[Route, dict[str, str]]:
    """Find the route of a request, and the variable parts of its path.

    :raises ApiError: 404 if there is none, 405 if there is one for other methods, 501 if it is known but not emulated.
    """
    segments = [unquote(segment) for segment in raw_path.split("/")]
    # An encoded slash would make one segment into two.
    path = "" if any("/" in segment for segment in segments) else "/".join(segments)
    allowed = []
    for route in ROUTES:
        if (match := route.pattern.fullmatch(path)) is not None and match["version"] in route.versions:
            if route.method == method:
                return route, match.groupdict()
            allowed.append(route.method)
    for missing, pattern, what in _MISSING:
        if missing in {method, "*"} and pattern.fullmatch(path):
            raise ApiError(501, f"The emulator does not emulate this: {what}.")
    if allowed:
        raise ApiError(405, f"The method is not allowed here; these are: {', '.join(_unique(allowed))}.")
    raise ApiError(404, "The requested URL was not found on this server.")


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))
