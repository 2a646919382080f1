"""How much a store, a study or a series holds, and how an instance is stored.

Source: Cloud Healthcare API v1 discovery document, ``DicomStoreMetrics``, ``StudyMetrics``, ``SeriesMetrics``,
``StorageInfo``.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from airflow_dicomweb.emulator.messages import ApiError, json_answer
from airflow_dicomweb.emulator.records import rfc3339
from airflow_dicomweb.emulator.service import Call
from airflow_dicomweb.emulator.wado import stored_of

_SUMS = (
    "COUNT(DISTINCT study) AS studyCount, COUNT(DISTINCT study || '/' || series) AS seriesCount, "
    "COUNT(*) AS instanceCount, COALESCE(SUM(LENGTH(attributes)), 0) AS structuredStorageSizeBytes, "
    "COALESCE(SUM(size), 0) AS blobStorageSizeBytes"
)
_SIZES = ("structuredStorageSizeBytes", "blobStorageSizeBytes")


def store_metrics(call: Call) -> Response:
    """Count what a store holds."""
    counted = _counted(call, ("studyCount", "seriesCount", "instanceCount", *_SIZES))
    return json_answer({"name": call.store, **counted})


def study_metrics(call: Call) -> Response:
    """Count what a study holds."""
    stored_of(call)
    counted = _counted(call, ("seriesCount", "instanceCount", *_SIZES))
    return json_answer({"study": f"{call.store}/dicomWeb/{call.resource()}", **counted})


def series_metrics(call: Call) -> Response:
    """Count what a series holds."""
    stored_of(call)
    counted = _counted(call, ("instanceCount", *_SIZES))
    return json_answer({"series": f"{call.store}/dicomWeb/{call.resource()}", **counted})


def _counted(call: Call, names: tuple[str, ...]) -> dict[str, str]:
    """Give the counts that are not zero, as the proto3 mapping writes them."""
    where, values = ["store = ?"], [call.store_row(), *(call.names[n] for n in ("study", "series") if n in call.names)]
    where += [f"{name} = ?" for name in ("study", "series") if name in call.names]
    with call.service.instances.database.reading() as index:
        row = index.execute(f"SELECT {_SUMS} FROM instances WHERE {' AND '.join(where)}", values).fetchone()  # noqa: S608
    return {name: str(row[name]) for name in names if row[name]}


def storage_info(call: Call) -> Response:
    """Tell how an instance is stored."""
    stored = stored_of(call)[0]
    with call.service.instances.database.reading() as index:
        row = index.execute(
            "SELECT storage_class, stored_at, LENGTH(attributes) AS length FROM instances WHERE id = ?", [stored.id]
        ).fetchone()
    if row is None:
        raise ApiError(404, f"{stored.path} is not there, or the caller has no access to it.")
    blob: dict[str, Any] = {"sizeBytes": str(stored.size), "storageClass": row["storage_class"]}
    blob["storageClassUpdateTime"] = rfc3339(row["stored_at"])
    return json_answer(
        {
            "referencedResource": f"{call.store}/dicomWeb/{stored.path}",
            "blobStorageInfo": blob,
            "structuredStorageInfo": {"sizeBytes": str(row["length"])},
        }
    )
