"""The page at ``/``: what the emulator does not do, and then what it holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from airflow_dicomweb.emulator.records import Failure, Record, rfc3339
from airflow_dicomweb.emulator.service import Service

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #ddd; vertical-align: top }
td { overflow-wrap: anywhere } h2 { margin: 2rem 0 0; font-size: 1.1rem }
.limits { background: #fff6e0; border-left: 4px solid #d90; padding: .5rem 1rem }
"""
_NATURE = (
    '<div class="limits"><p>An emulator for tests and demos. It is not for patients\' data: any token opens it. '
    "What it does <b>not</b> emulate:</p>"
)
_FURTHER_LIMITS = (
    "<li>export to BigQuery and to compressed "
    "transfer syntaxes</li><li>permissions: policies are kept, and any token is good</li><li>streaming to "
    "BigQuery: what a store says of it is kept, and nothing is sent</li><li>Pub/Sub by gRPC: only by REST</li><li>compression: instances are given as stored or decompressed</li><li>quotas, and the "
    "delay with which a search sees a deletion</li>"
)
_LATEST = 50
_SHOWN_APART = {"method", "match", "times", "fired", "headers"}


def main_page(service: Service) -> str:
    """Write the page."""
    from airflow_dicomweb.emulator.routes import NOT_EMULATED

    limits = "".join(f"<li>{escape(what)}</li>" for what in dict.fromkeys(what for _, _, what in NOT_EMULATED))
    parts = [
        f"<h1>A local Cloud Healthcare API for DICOM</h1>{_NATURE}<ul>{limits}{_FURTHER_LIMITS}</ul></div>",
        _table("DICOM stores", ("name", "studies", "series", "instances", "bytes"), _stores(service)),
        _table("Settings", ("name", "value"), service.settings.to_json().items()),
        _table("Operations", ("name", "does", "state", "succeeded", "failed", "left", "began"), _operations(service)),
        _table("Faults", ("method", "match", "what", "times", "fired"), _faults(service)),
        _table("Requests, latest first", ("method", "path", "status", "seconds"), _requests(service)),
    ]
    return _document("Emulator", "".join(parts))


def log_page(record: Record, failures: Sequence[Failure]) -> str:
    """Write the page of an operation's log."""
    state = record.operation("").verdict.replace("_", " ")
    head = f"<h1>Operation</h1><p>{escape(record.name)}: {escape(state)}</p>"
    rows = [(failure.source, failure.code, failure.message) for failure in failures]
    return _document("Operation", head + _table("Errors", ("source", "code", "message"), rows))


def _stores(service: Service) -> Iterable[Sequence[object]]:
    with service.instances.database.reading() as index:
        return index.execute(
            "SELECT name, COUNT(DISTINCT study), COUNT(DISTINCT study || '/' || series), COUNT(instance), "
            "COALESCE(SUM(size), 0) FROM stores LEFT JOIN instances ON store = stores.id GROUP BY stores.id ORDER BY name"
        ).fetchall()


def _operations(service: Service) -> Iterable[Sequence[object]]:
    for record in service.records.all()[:_LATEST]:
        operation = record.operation("")
        state = operation.verdict.replace("_", " ")
        yield (
            *(record.name, operation.short_method, state),
            *(record.success, record.failure, record.pending, rfc3339(record.created)),
        )


def _faults(service: Service) -> Iterable[Sequence[object]]:
    for fault in service.faults.to_json():
        what = ", ".join(f"{key} {value}" for key, value in fault.items() if key not in _SHOWN_APART)
        yield fault["method"] or "any", fault["match"], what, fault["times"], fault["fired"]


def _requests(service: Service) -> Iterable[Sequence[object]]:
    for entry in reversed(service.journal.to_json()[-_LATEST:]):
        yield entry["method"], entry["path"], entry["status"] or "none", f"{entry['seconds']:.3f}"


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    if not body:
        return f"<h2>{escape(title)}</h2><p>none</p>"
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    return f"<h2>{escape(title)}</h2><table><tr>{head}</tr>{body}</table>"


def _document(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>"
    )
