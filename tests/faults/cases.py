"""One row of the matrix: what happens to which requests, and how the call must end."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_dicomweb.errors import DicomWebError
from tests.servers.fault_proxy import Action, Trap

_REQUESTS = {
    "store": ("POST", r"/studies(/[\d.]+)?$"),
    "search": ("GET", r"/(studies|series|instances)$"),
    "retrieve": ("GET", r"/studies/[\d.]+(/series/[\d.]+(/instances/[\d.]+)?)?$"),
}
ALWAYS = None


@dataclass(frozen=True)
class Fault:
    """What happens to some requests.

    :param on: ``store``, ``search`` or ``retrieve``.
    :param action: What happens.
    :param times: To how many of them; None for all.
    :param skip: How many pass before the first.
    """

    on: str
    action: Action
    times: int | None = 1
    skip: int = 0

    def trap(self) -> Trap:
        """The same with a count of its own."""
        return Trap(*_REQUESTS[self.on], self.action, self.times, self.skip)


@dataclass(frozen=True)
class Case:
    """A row.

    :param name: Readable.
    :param faults: What happens; each must happen at least once.
    :param ends: The outcomes that there must be, all of them and no other, in words; or the error that is raised.
    :param shapes: Only these sizes; None for all.
    :param request_timeout: Of the client, in seconds.
    :param renewable: Whether the client can renew its credentials.
    :param refused: The connection is refused until the client was told so once.
    """

    name: str
    faults: tuple[Fault, ...]
    ends: str | type[DicomWebError]
    shapes: tuple[str, ...] | None = None
    request_timeout: float = 20.0
    renewable: bool = False
    refused: bool = False


def on_store(name: str, action: Action, ends: str | type[DicomWebError] = "created", **more) -> Case:
    """A row with one fault on store requests; ``times`` and ``skip`` are the fault's."""
    return _one("store", name, action, ends, **more)


def on_search(name: str, action: Action, ends: str | type[DicomWebError] = "created", **more) -> Case:
    """A row with one fault on searches."""
    return _one("search", name, action, ends, **more)


def on_retrieve(name: str, action: Action, ends: str | type[DicomWebError] = "whole", **more) -> Case:
    """A row with one fault on retrievals."""
    return _one("retrieve", name, action, ends, **more)


def _one(on: str, name: str, action: Action, ends, *, times: int | None = 1, skip: int = 0, **more) -> Case:
    return Case(name, (Fault(on, action, times, skip),), ends, **more)
