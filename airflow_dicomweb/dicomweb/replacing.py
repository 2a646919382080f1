"""Replacing what a server has under an identity: never without a copy of it, or a server that does it in one step.

Where the server takes ``PUT``, that is one step. Elsewhere the old bytes are copied first, the copy is read again and
compared, the instance is deleted, and the new one is stored and fetched for comparison. Whatever breaks after the
deletion is said in the outcome, with the name of the copy. A later try finds the new bytes, or nothing, and stores them.

An instance that this call has stored itself, or found identical, is not replaced by another source of the same call.

Source: DICOM PS3.18 section 10.5 (store transaction); Cloud Healthcare API v1beta1, ``dicomStores.updateInstances``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import BinaryIO, NamedTuple, Protocol

from airflow_dicomweb.dicomweb.backups import Backup
from airflow_dicomweb.dicomweb.batches import Item, SourceFailed
from airflow_dicomweb.dicomweb.habits import ServerHabits
from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.dicomweb.stow import Outcome
from airflow_dicomweb.errors import ConfigurationError, DicomWebError

_log = logging.getLogger(__name__)

_ACCEPTED = (
    "it needs a server that replaces by PUT (a Cloud Healthcare API store with api_version v1beta1), or one that deletes "
    "instances and a backup_uri, where the old bytes go first"
)
_KEPT = "the bytes that it replaces are in the backup as "
_DELETED = "THE OLD BYTES WERE DELETED on the server to be replaced; they are in the backup as "
_SEE = ": see that one of the two is stored"
_TWICE = "another source of this call has this identity, and is stored"


class ReplaceServer(Protocol):
    """What replacing needs of a server."""

    @property
    def habits(self) -> ServerHabits:
        """In what it differs from others."""
        ...

    def digest_of(self, path: InstancePath) -> str | None:
        """Fetch an instance and give the SHA-256 of its bytes; None if it is not there."""
        ...

    def copy(self, path: InstancePath, target: BinaryIO) -> str | None:
        """Fetch an instance into a file and give the SHA-256 of its bytes; None if it is not there."""
        ...

    def delete(self, path: InstancePath) -> None:
        """Delete an instance; one that is not there is deleted."""
        ...


class Refusal(NamedTuple):
    """Why an instance is not replaced."""

    outcome: Outcome
    reason: str


def check_replacing(habits: ServerHabits, backup: Backup | None) -> None:
    """See that instances can be replaced.

    :raises ConfigurationError: If there is no safe way.
    """
    if not habits.takes_put and not habits.deletes:
        raise ConfigurationError(f"on_conflict='replace' is not possible here: {_ACCEPTED}; {habits.own_way}")
    if not habits.takes_put and backup is None:
        raise ConfigurationError(f"on_conflict='replace' without backup_uri is not possible here: {_ACCEPTED}")


class Replacing:
    """Makes way for instances, from any number of threads.

    :param server: Where.
    :param backup: Where the old bytes go first; may be None for a server that takes ``PUT``.
    :raises ConfigurationError: If there is no safe way.
    """

    def __init__(self, server: ReplaceServer, backup: Backup | None) -> None:
        check_replacing(server.habits, backup)
        self._server, self._backup = server, backup
        # Hashes, not UIDs: there may be many. A false hit, one in 10**13 of a million, is a conflict and loses nothing.
        self._stored: set[int] = set()

    def keep(self, path: InstancePath) -> None:
        """Protect an instance that this call has stored, or found identical."""
        self._stored.add(hash(path))

    def make_way(self, item: Item) -> Refusal | None:
        """Copy and delete what an instance is to replace; on return it can be sent, unless there is a refusal."""
        if hash(item.path) in self._stored:
            return Refusal("conflict", _TWICE)
        try:
            # The new bytes must be there and readable before the old ones go.
            item.digest()
            name = self._backup.keep(item.path, self._copier(item.path)) if self._backup is not None else None
            if not self._server.habits.takes_put:
                if name is not None:
                    self._delete(item, name)
                item.existed = False
        except SourceFailed as failed:
            return Refusal("failed", failed.reason)
        except _NotDeletedError as error:
            return Refusal(
                "conflict", f"the server has other bytes under this identity, and does not delete them: {error}"
            )
        except DicomWebError as error:
            return Refusal("failed", f"it was not replaced, the old bytes could not be brought to safety: {error}")
        item.replaces, item.existed = True, False
        if not item.note and name is not None:
            item.note = f"{_KEPT}{name}"
        return None

    def _copier(self, path: InstancePath) -> Callable[[BinaryIO], str | None]:
        return lambda target: self._server.copy(path, target)

    def _delete(self, item: Item, name: str) -> None:
        _log.info("replacing %s: its old bytes are in the backup", item.path)
        try:
            self._server.delete(item.path)
        except DicomWebError as error:
            if self._is_there(item.path):
                raise _NotDeletedError(
                    f"{error}; in case they go after all, they are in the backup as {name}"
                ) from None
        item.note = f"{_DELETED}{name}{_SEE}"

    def _is_there(self, path: InstancePath) -> bool:
        """Tell whether an instance is surely there after a deletion that was not confirmed."""
        try:
            return self._server.digest_of(path) is not None
        except DicomWebError:
            return False

    def finding(self, item: Item) -> str:
        """Fetch what was stored in the place of other bytes: gives an empty string if it is what was sent.

        Then there is nothing to warn of any more.
        """
        try:
            stored = self._server.digest_of(item.path)
        except DicomWebError as error:
            return f"the server accepted it, but it cannot be fetched: {error}"
        if stored is None:
            return "the server accepted it, but it is not there afterwards"
        if stored != item.digest():
            return "the server accepted it, but it has other bytes now"
        say_replaced(item)
        return ""


def say_replaced(item: Item) -> None:
    """Take back the warning about the old bytes: the new ones were found on the server."""
    if item.note.startswith(_DELETED):
        item.note = _KEPT + item.note.removeprefix(_DELETED).removesuffix(_SEE)


class _NotDeletedError(DicomWebError):
    pass
