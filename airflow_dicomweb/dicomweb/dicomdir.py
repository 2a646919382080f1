"""The DICOMDIR of a CD: the files that it names, and which of them are missing.

A DICOMDIR is an index and is not stored itself. Everything below its folder is listed whether it is named or not; a file
that is named and not there was lost before it came here, and is said to be.

Names on a CD are in capitals, may have a version number (``IMG.;1``), and are often copied in lower case: they are compared
without all that. They are looked up in listings and never opened, so that they cannot lead out of the folder.

Source: DICOM PS3.10 sections 8.2 and 8.6, PS3.3 section F.3.2.2 (directory records), PS3.12 annex F (ISO 9660 names).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import BinaryIO

from airflow_dicomweb.dicomweb.elements import ITEM, elements
from airflow_dicomweb.dicomweb.entries import Entry, reason_of
from airflow_dicomweb.dicomweb.part10 import NoPart10Header, UnusableFile
from airflow_dicomweb.errors import DicomWebError

MISSING = "named by the DICOMDIR and missing"

_MEDIA_CLASS, _RECORDS, _IN_USE, _FILE_ID = 0x00020002, 0x00041220, 0x00041410, 0x00041500
_DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
_VERSION = re.compile(r";\d+$")
_WANTED = frozenset({_MEDIA_CLASS, _IN_USE, _FILE_ID, ITEM})
_LISTINGS_HELD = 16

Parts = tuple[str, ...]


def is_dicomdir(name: str) -> bool:
    """Tell whether a file has the name of a DICOMDIR."""
    return fold(name) == "dicomdir"


def fold(name: str) -> str:
    """Give a name as it is compared: without case, version number and a dot at the end."""
    return _VERSION.sub("", name).rstrip(". ").casefold()


def parts_of(name: str) -> Parts:
    """Split a file ID or a path."""
    return tuple(part for each in re.split(r"[\\/]", name) if (part := each.strip()) not in {"", "."})


def index_entries(dicomdir: Entry, exists: Callable[[Parts], bool]) -> list[Entry]:
    """Give a DICOMDIR as it is listed, and after it, by name, an entry for each file that it names and that is missing.

    :param dicomdir: An entry whose name is that of a DICOMDIR; an instance of that name is one.
    :param exists: Tells whether there is a file of this name below its folder.
    """
    missing: dict[Parts, Parts] = {}
    try:
        with dicomdir.open() as stream:
            for parts in _named(stream):
                if not exists(parts):
                    missing.setdefault(tuple(map(fold, parts)), parts)
    except NoPart10Header:
        reason = "a file with the name of a DICOMDIR that is no DICOM file, so that files may be missing unseen"
        dicomdir = Entry.unreadable(dicomdir.name, dicomdir.relative, reason)
    except (OSError, DicomWebError) as error:
        reason = f"a DICOMDIR that cannot be read to its end ({reason_of(error)}), so that files may be missing unseen"
        dicomdir = Entry.unreadable(dicomdir.name, dicomdir.relative, reason)
    above, relative = _folder_of(dicomdir.name), _folder_of(dicomdir.relative)
    labels = sorted("/".join(parts) for parts in missing.values())
    return [dicomdir, *(Entry.unreadable(f"{above}{label}", f"{relative}{label}", MISSING) for label in labels)]


def _folder_of(name: str) -> str:
    return name[: len(name) - len(re.split(r"[\\/]", name)[-1])]


def _named(stream: BinaryIO) -> Iterator[Parts]:
    """Give the files that the records in use name; nothing if it is another DICOM file.

    :raises UnusableFile: If it breaks off; NoPart10Header if it is no DICOM file.
    """
    is_directory, in_use = False, True
    try:
        for element in elements(stream, _WANTED, frozenset({_RECORDS})):
            if element.tag == _MEDIA_CLASS:
                is_directory = element.text() == _DIRECTORY_CLASS
            if not is_directory:
                return
            if element.tag == _IN_USE:
                in_use = element.number() != 0
            elif element.tag == _FILE_ID and element.depth == 1 and in_use and (parts := parts_of(element.text())):
                yield parts
            elif element.tag == ITEM and element.depth == 1:
                in_use = True
    except NoPart10Header:
        raise
    except UnusableFile:
        if is_directory:
            raise


class Folders:
    """Looks files up below a folder, whatever the case of their names.

    :param names_in: Gives the names in a folder below it, which ends with a slash or is empty; those of folders end with a
        slash. Raises OSError if it cannot.
    """

    def __init__(self, names_in: Callable[[str], Iterable[str]]) -> None:
        self._names_in = names_in
        self._names = lru_cache(_LISTINGS_HELD)(self._listed)

    def exists(self, parts: Parts, folder: str = "") -> bool:
        """Tell whether there is a file of this name, for all that is known: a folder that cannot be listed is a failure itself."""
        names = self._names(folder)
        if names is None:
            return True
        first, *rest = parts
        found = names.get(fold(first), ())
        if not rest:
            return any(not name.endswith("/") for name in found)
        return any(self.exists(tuple(rest), f"{folder}{name}") for name in found if name.endswith("/"))

    def _listed(self, folder: str) -> dict[str, list[str]] | None:
        names: dict[str, list[str]] = {}
        try:
            for name in self._names_in(folder):
                names.setdefault(fold(name.rstrip("/")), []).append(name)
        except OSError:
            return None
        return names
