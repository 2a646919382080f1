"""Answers made of pieces of files: one by itself, or several as the parts of a multipart body.

Source: DICOM PS3.18 section 8.6.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from starlette.responses import StreamingResponse

from airflow_dicomweb.dicomweb.media_types import MediaType
from airflow_dicomweb.dicomweb.multipart import BLOCK_SIZE, Body, Part, exactly


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of a file.

    :param file: Where they are: a path, or a file that is open and has no name any more.
    :param start: Position of the first one.
    :param size: How many there are.
    """

    file: Path | IO[bytes]
    start: int
    size: int

    def blocks(self) -> Iterator[bytes]:
        """Read them, block by block."""
        with ExitStack() as opened:
            file = opened.enter_context(self.file.open("rb", buffering=0)) if isinstance(self.file, Path) else self.file
            file.seek(self.start)
            left = self.size
            while left and (block := file.read(min(left, BLOCK_SIZE))):
                left -= len(block)
                yield block

    def part(self, media_type: str) -> Part:
        """Give them as a part of a body."""
        return Part(media_type, self.size, self.blocks)


def pieces_of(file: IO[bytes], sizes: Iterable[int]) -> list[Piece]:
    """Give pieces that lie one after the other."""
    pieces, start = [], 0
    for size in sizes:
        pieces.append(Piece(file, start, size))
        start += size
    return pieces


def single_answer(part: Part, opened: Sequence[IO[bytes]] = ()) -> StreamingResponse:
    """Answer with one piece by itself.

    :param opened: Files to close when the answer was sent.
    """
    headers = {"content-type": part.media_type, "content-length": str(part.size)}
    return StreamingResponse(_closing(exactly(part.read(), part.size), opened), headers=headers)


def multipart_answer(parts: Sequence[Part], opened: Sequence[IO[bytes]] = ()) -> StreamingResponse:
    """Answer with all pieces, in order.

    :param opened: Files to close when the answer was sent.
    """
    body = Body(parts, MediaType.parse(parts[0].media_type).name)
    headers = {"content-type": body.content_type, "content-length": str(len(body))}
    return StreamingResponse(_closing(body, opened), headers=headers)


def _closing(blocks: Iterable[bytes], opened: Sequence[IO[bytes]]) -> Iterator[bytes]:
    try:
        yield from blocks
    finally:
        for file in opened:
            file.close()
