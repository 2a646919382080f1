"""In what servers differ, as far as this package acts differently.

Source: the conformance statements of the servers named, and the behaviour of those that the tests run.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerHabits:
    """In what servers differ when instances are stored.

    :param reports_conflicts: Refuses an instance when it has other bytes under its identity, and says so; accepts it
        when it has the same.
    :param single_part: Takes and gives one instance without a multipart body around it.
    :param storage_classes: Storage classes that a request may ask for.
    """

    reports_conflicts: bool = False
    single_part: bool = False
    storage_classes: tuple[str, ...] = ()


STANDARD = ServerHabits()
"""A server of which nothing more is known than that it follows the standard."""
