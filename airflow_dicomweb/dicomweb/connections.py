"""Connections as ``requests`` makes them, with what it leaves open settled, and its errors in words.

Settled here: the time-out while a body is sent (urllib3 uses the connect time-out for that, so that a large body on a
slow line fails after ten seconds); no credentials out of ``.netrc``; no content encoding (a server that compresses
DICOM answers ten times slower); an answer that comes before the request is wholly sent is read; an answer that is
cut in its head is none (``answer_heads.py``); no proxy for loopback.

Source: RFC 9110 sections 7.8 and 12.5.3, RFC 9112 section 9.3 (persistence) and 9.6 (early close).
"""

from __future__ import annotations

import http.client
import socket
import ssl
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import requests.adapters
import urllib3.connection
import urllib3.exceptions
from urllib3.util import wait_for_read

from airflow_dicomweb import __version__
from airflow_dicomweb.dicomweb.addresses import is_loopback
from airflow_dicomweb.dicomweb.answer_heads import WholeHead
from airflow_dicomweb.dicomweb.block_memory import keep_block_memory
from airflow_dicomweb.dicomweb.log_privacy import keep_queries_out_of_logs
from airflow_dicomweb.dicomweb.multipart import BLOCK_SIZE
from airflow_dicomweb.dicomweb.sending import SendableBody, Sending
from airflow_dicomweb.dicomweb.whole_files import WholeFile

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer.

    :param cause: In words, without URL, path or credentials.
    :param sent: Whether the server may have got the request.
    :param dropped: Whether the server closed the connection before it answered.
    :param permanent: Whether trying again is pointless: the connection's settings are wrong.
    """

    cause: str
    sent: bool = True
    dropped: bool = False
    permanent: bool = False


class Connections:
    """Kept-alive connections to one server, one session a thread: requests does not promise that threads can share one.

    :param connect_timeout: Seconds to establish a connection.
    :param request_timeout: Seconds without progress, nothing sent nor received.
    :param verify: Whether certificates are checked, or the CA file or folder they are checked with.
    :param client_cert: A PEM file with certificate and key, or a pair of files.
    """

    def __init__(
        self,
        *,
        connect_timeout: float,
        request_timeout: float,
        verify: bool | str,
        client_cert: str | tuple[str, str] | None,
    ) -> None:
        keep_queries_out_of_logs()
        keep_block_memory()
        self._connect_timeout, self._request_timeout = connect_timeout, request_timeout
        self._verify, self._client_cert, self._thread = verify, client_cert, _Thread()
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the idle connections of all threads."""
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.close()

    def exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | SendableBody | None, *, fresh: bool
    ) -> requests.Response | Failure:
        """Send one request and get the head of its answer, redirect or not.

        A kept-alive connection that the server closed meanwhile is replaced at once.

        :param fresh: Whether a connection must be new: a request that must not happen twice cannot go over one that
            the server may just be closing, because nobody could tell whether it arrived.
        """
        session = self._session()
        kept_alive = self._thread.warm and not fresh
        if not kept_alive:
            session.close()
        self._thread.warm = False
        result = self._once(session, method, url, headers, body)
        if isinstance(result, Failure) and result.dropped and kept_alive:
            session.close()
            result = self._once(session, method, url, headers, body)
        self._thread.warm = not isinstance(result, Failure)
        return result

    def read(self, response: requests.Response, *, decode: bool = True) -> Iterator[bytes | Failure]:
        """Read the body of an answer in blocks; a failure is the last item.

        :param decode: Whether a content encoding is undone.
        """
        blocks = response.raw.stream(BLOCK_SIZE, decode_content=decode)
        while (block := self._guarded(lambda: next(blocks, None))) is not None:
            yield block
            if isinstance(block, Failure):
                return

    def _once(
        self,
        session: requests.Session,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | SendableBody | None,
    ) -> requests.Response | Failure:
        sending = Sending(body or b"")
        # requests would send an empty recipe in chunks.
        request = requests.Request(method, url, headers=headers, data=sending if len(sending) else None)

        def send() -> requests.Response:
            return session.send(session.prepare_request(request), **self._settings(session, url))

        result = self._guarded(send)
        if isinstance(result, Failure) or sending.complete:
            return result
        # The connection is in the middle of a request: not to be used again.
        session.close()
        if result.status_code >= 300:
            return result
        result.close()
        return Failure("it said success before the whole request was sent")

    def _settings(self, session: requests.Session, url: str) -> dict[str, Any]:
        """Give what the environment says, asked once a thread: that costs as much as the rest of a request."""
        if self._thread.settings is None:
            found = session.merge_environment_settings(url, {}, True, self._verify, self._client_cert)  # noqa: FBT003
            # A proxy is another machine: it would read what was meant to stay on this one, credentials too.
            proxies = {} if is_loopback(urlsplit(url).hostname or "") else found["proxies"]
            timeout = (self._connect_timeout, self._request_timeout)
            self._thread.settings = {**found, "proxies": proxies, "timeout": timeout}
        return self._thread.settings

    def _session(self) -> requests.Session:
        if self._thread.session is None:
            session = _Session()
            session.headers.update({"User-Agent": f"airflow-dicomweb/{__version__}", "Accept-Encoding": "identity"})
            session.auth = _as_it_is
            for scheme in ("http://", "https://"):
                session.mount(scheme, _Adapter(self._request_timeout))
            with self._lock:
                self._sessions.add(session)
            self._thread.session = session
        return self._thread.session

    def _guarded(self, step: Callable[[], T]) -> T | Failure:
        outer = sys.exception()
        try:
            return step()
        except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            return _failure(list(_chain(error, outer)), self._connect_timeout, self._request_timeout)


class _Thread(threading.local):
    session: requests.Session | None = None
    settings: dict[str, Any] | None = None
    warm = False


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Follow nothing: a redirect is an answer."""
        return None


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Stand in for an authentication: without one requests looks into ``.netrc``."""
    return request


class _Adapter(requests.adapters.HTTPAdapter):
    """Gives every pool, proxied or not, connections that send with the right time-out."""

    def __init__(self, request_timeout: float) -> None:
        self._send_timeout = request_timeout
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        made: Any = pool.ConnectionCls
        if not issubclass(made, _Sender):
            pool.ConnectionCls = type(made.__name__, (_Sender, made), {"send_timeout": self._send_timeout})
        return pool

    def close(self) -> None:
        """Close idle connections now; urllib3 waits for the garbage collector, as long as an answer is held."""
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118 - no mapping: it refuses to be iterated over
                with suppress(KeyError):
                    manager.pools[key].close()
        super().close()


class _Sender(urllib3.connection.HTTPConnection):
    send_timeout: float
    response_class = WholeHead

    def connect(self) -> None:
        """Tell failures to connect, a TLS handshake included, from those of a request that was sent."""
        try:
            super().connect()
        except TimeoutError as error:
            raise urllib3.exceptions.ConnectTimeoutError(self, "no connection in time") from error
        except OSError as error:
            raise urllib3.exceptions.NewConnectionError(self, "no connection") from error

    def send(self, data: Any) -> None:
        """Send with the time-out for sending, and look for an answer where the server takes no more."""
        if self.sock is None:
            self.connect()
        self.sock.settimeout(self.send_timeout)
        try:
            if not isinstance(data, WholeFile):
                super().send(data)
            elif type(self.sock) is socket.socket:
                data.send(self.sock)
            else:
                for block in data.blocks():
                    super().send(block)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            # The peer closed: urllib3 then looks for an answer, as it does without TLS.
            raise BrokenPipeError from error
        except TimeoutError as error:
            # A server that has answered and reads no further.
            if wait_for_read(self.sock, timeout=0):
                raise BrokenPipeError from error
            raise


def _failure(chain: list[BaseException], connect_timeout: float, request_timeout: float) -> Failure:
    """Find the cause in what requests, urllib3, ssl and the system wrapped around each other."""
    # requests gives it the name of what is wrong with a request.
    of_the_answer = any(isinstance(link, urllib3.exceptions.InvalidHeader) for link in chain)
    for kind, words in _PERMANENT.items():
        found = None if of_the_answer else next((link for link in chain if isinstance(link, kind)), None)
        if found is not None:
            why = f" ({found.verify_message})" if isinstance(found, ssl.SSLCertVerificationError) else ""
            return Failure(words + why, sent=False, permanent=True)
    if type(chain[0]) is OSError:
        # What requests raises, unwrapped, for certificate files that are not there.
        return Failure("the file of a CA or client certificate cannot be used", sent=False, permanent=True)
    sent = not any(isinstance(link, _NOT_SENT) for link in chain)
    dropped = sent and any(isinstance(link, _DROPPED) for link in chain)
    proxy = "the proxy: " if any(isinstance(link, urllib3.exceptions.ProxyError) for link in chain) else ""
    timeout = f"no progress for {request_timeout:g} s" if sent else f"no connection within {connect_timeout:g} s"
    for kinds, words in _CAUSES.items():
        if any(isinstance(link, kinds) for link in chain):
            return Failure(proxy + words.format(timeout=timeout), sent, dropped)
    named = next((link.strerror for link in reversed(chain) if isinstance(link, OSError) and link.strerror), None)
    return Failure(proxy + (named or type(chain[-1]).__name__), sent, dropped)


_PERMANENT: dict[type[Exception], str] = {
    ssl.SSLCertVerificationError: "its TLS certificate is not trusted; name its CA file as verify",
    requests.exceptions.InvalidHeader: "a header holds what HTTP cannot carry",
    requests.exceptions.InvalidURL: "the URL cannot be used",
    requests.exceptions.InvalidProxyURL: "the proxy's URL cannot be used",
    requests.exceptions.InvalidSchema: "the proxy's kind cannot be used",
}
_NOT_SENT = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.ProxyError,
)
_DROPPED = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)
# The first that fits: the particular before the general.
_CAUSES: dict[tuple[type[BaseException], ...], str] = {
    (urllib3.exceptions.NameResolutionError, socket.gaierror): "the host name cannot be resolved",
    (ConnectionRefusedError,): "connection refused",
    (urllib3.exceptions.ReadTimeoutError, TimeoutError): "{timeout}",
    (http.client.RemoteDisconnected,): "the server closed the connection without an answer",
    (ConnectionResetError,): "connection reset",
    (BrokenPipeError,): "the server closed the connection while the request was sent",
    (urllib3.exceptions.IncompleteRead, http.client.IncompleteRead): "the answer was cut short",
    (urllib3.exceptions.InvalidChunkLength,): "the answer was cut short or its chunks are broken",
    (urllib3.exceptions.InvalidHeader,): "the answer's headers contradict each other",
    (urllib3.exceptions.DecodeError,): "the answer's content encoding is broken",
    (http.client.HTTPException,): "the answer is not HTTP",
    (ssl.SSLError,): "the TLS connection broke",
}


def _chain(error: BaseException, outer: BaseException | None) -> Iterator[BaseException]:
    """Go through an error and all that it was made of, each once, outermost first.

    :param outer: What was being handled before: Python hangs it on, but it is of another request.
    """
    queue, seen = [error], {id(outer)}
    while queue:
        link = queue.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        inner = [getattr(link, "reason", None), link.__cause__, link.__context__, *link.args]
        queue += [item for item in inner if isinstance(item, BaseException)]
