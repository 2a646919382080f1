"""What a proxy can do to a request and its answer: each function gives an action for ``tests.servers.fault_proxy``."""

from __future__ import annotations

import gzip
from collections.abc import Callable

from tests.servers.fault_proxy import DEADLINE, Action, Exchange, Headers, Reply

HTML = b"<html><head><title>Somewhere on the way</title></head><body>Something is wrong</body></html>"

Change = Callable[[Reply], Reply]
Leave = Callable[[Exchange], None]


def answer(status: int, body: bytes = b"", content_type: str | None = None, headers: Headers | None = None) -> Action:
    """Answer in the server's place; the server gets nothing."""
    made = [*([("Content-Type", content_type)] if content_type else []), *(headers or [])]

    def act(exchange: Exchange) -> None:
        exchange.read()
        exchange.send(Reply(status, made, body).wire())

    return act


def page(status: int, *headers: tuple[str, str]) -> Action:
    """Answer with a page for people, as proxies do; the server gets nothing."""
    return answer(status, HTML, "text/html", list(headers))


def stored_then(action: Action) -> Action:
    """Let the server have the request, and do something else than to pass its answer on."""

    def act(exchange: Exchange) -> None:
        exchange.forward()
        action(exchange)

    return act


def after(size: float, leave: Leave) -> Action:
    """Read so much of the request's body, as a share of it, and leave; the server gets nothing."""

    def act(exchange: Exchange) -> None:
        exchange.read(int(exchange.length * size))
        leave(exchange)

    return act


def half_to_the_server(leave: Leave) -> Action:
    """Let the server have the first half of the request, and leave both."""

    def act(exchange: Exchange) -> None:
        exchange.forward_part(exchange.length // 2)
        leave(exchange)

    return act


def early(status: int, leave: Leave, size: float = 0.0, content_type: str = "text/html") -> Action:
    """Answer before the body was read, and leave."""

    def act(exchange: Exchange) -> None:
        exchange.read(int(exchange.length * size))
        exchange.send(Reply(status, [("Content-Type", content_type)], HTML).wire())
        leave(exchange)

    return act


def changed(change: Change) -> Action:
    """Pass the server's answer on with a change that its length goes along with."""

    def act(exchange: Exchange) -> None:
        exchange.send(change(exchange.forward()).wire())

    return act


def header(name: str, value: str | None) -> Action:
    """Replace or remove a header of the answer."""
    return changed(lambda reply: reply.with_header(name, value))


def cut_head(leave: Leave) -> Action:
    """Break the answer off in the middle of a header."""

    def act(exchange: Exchange) -> None:
        exchange.send(exchange.forward().wire()[:25])
        leave(exchange)

    return act


def cut_body(left: float, leave: Leave, *, declared: bool = True) -> Action:
    """Break the answer's body off.

    :param left: What is sent of it: a share, or (negative) all but so many bytes.
    :param declared: Whether Content-Length was that of the whole body; if not, there is none, and the end of the
        connection is the end of the body.
    """

    def act(exchange: Exchange) -> None:
        reply = exchange.forward()
        size = len(reply.body) + left if left < 0 else int(len(reply.body) * left)
        lengths = [f"Content-Length: {len(reply.body)}"] if declared else ["Connection: close"]
        exchange.send(reply.head(*lengths) + reply.body[: int(size)])
        leave(exchange)

    return act


def lengths(*lines: Callable[[int], str], leave: Leave | None = None) -> Action:
    """Declare something else than the body's length.

    :param lines: Headers, made from the length.
    :param leave: What becomes of the connection; None keeps it.
    """

    def act(exchange: Exchange) -> None:
        reply = exchange.forward()
        exchange.send(reply.head(*(line(len(reply.body)) for line in lines)) + reply.body)
        if leave is not None:
            leave(exchange)

    return act


def declared(difference: int, leave: Leave | None = None) -> Action:
    """Declare a Content-Length that is wrong by so many bytes."""
    return lengths(lambda size: f"Content-Length: {size + difference}", leave=leave)


def chunked(
    *, keep: float = 1.0, ending: bytes = b"0\r\n\r\n", spoil: bytes = b"", leave: Leave | None = None
) -> Action:
    """Send the answer in chunks.

    :param keep: Share of the body that is sent.
    :param ending: What stands after the last chunk.
    :param spoil: Bytes between two chunks that do not belong there.
    """

    def act(exchange: Exchange) -> None:
        reply = exchange.forward()
        body = reply.body[: int(len(reply.body) * keep)]
        size = max(len(body) // 3, 1)
        blocks = [body[start : start + size] for start in range(0, len(body), size)]
        exchange.send(reply.head("Transfer-Encoding: chunked"))
        for block in blocks:
            exchange.send(b"%x\r\n%b\r\n%b" % (len(block), block, spoil))
        exchange.send(ending)
        if leave is not None:
            leave(exchange)

    return act


def compressed(*, keep: int | None = None, name: str = "gzip") -> Action:
    """Compress the answer although it was asked not to.

    :param keep: Bytes of the compressed body that are sent, as if they were all; None for all.
    :param name: What Content-Encoding says.
    """

    def change(reply: Reply) -> Reply:
        return reply.with_body(gzip.compress(reply.body, 1)[:keep]).with_header("Content-Encoding", name)

    return changed(change)


def before(data: bytes, action: Action | None = None) -> Action:
    """Send something before the answer, such as an interim one."""

    def act(exchange: Exchange) -> None:
        exchange.send(data)
        exchange.send(exchange.forward().wire()) if action is None else action(exchange)

    return act


def then(leave: Leave) -> Action:
    """Pass the answer on as it is, and end the connection that the client keeps for its next request."""

    def act(exchange: Exchange) -> None:
        exchange.send(exchange.forward().wire())
        leave(exchange)

    return act


def silence(exchange: Exchange) -> None:
    """Take the request, and say nothing; the server gets nothing."""
    exchange.read()
    exchange.stall()


def silence_in_the_body(exchange: Exchange) -> None:
    """Say nothing more in the middle of the answer."""
    reply = exchange.forward()
    exchange.send(reply.head(f"Content-Length: {len(reply.body)}") + reply.body[: len(reply.body) // 2])
    exchange.stall()


def line_feeds(exchange: Exchange) -> None:
    """End the lines of the answer's head with line feeds alone."""
    reply = exchange.forward()
    exchange.send(reply.head(f"Content-Length: {len(reply.body)}").replace(b"\r\n", b"\n") + reply.body)


def refuse_from_now_on(exchange: Exchange) -> None:
    """Pass the answer on, close the connection, and accept no other."""
    exchange.send(exchange.forward().wire())
    exchange.proxy.refuse()
    exchange.close()


def close(exchange: Exchange) -> None:
    """End the connection."""
    exchange.close()


def reset(exchange: Exchange) -> None:
    """End the connection with a reset."""
    exchange.reset()


def half_close(exchange: Exchange) -> None:
    """Send no more, and read on."""
    exchange.half_close()


def stall(exchange: Exchange) -> None:
    """Neither read nor send nor close."""
    exchange.over = True
    exchange.proxy.stopped.wait(DEADLINE)
