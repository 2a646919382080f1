"""A loopback stand-in for the three places from which Google's credentials get their tokens.

Source: https://developers.google.com/identity/protocols/oauth2/service-account (key),
https://cloud.google.com/compute/docs/metadata/overview (metadata server),
https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
# google-auth puts Google's own address into the assertion, whatever token_uri the key names.
GOOGLE_TOKEN_URI = "https://oauth2.googleapis.com/token"
METADATA_EMAIL = "metadata@project.iam.gserviceaccount.com"
METADATA_PROJECT = "metadata-project"
_SERVICE_ACCOUNT = "/computeMetadata/v1/instance/service-accounts/"
_GENERATE_ACCESS_TOKEN = re.compile(r"/v1/projects/-/serviceAccounts/([^/:]+):generateAccessToken")


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One request for a token, as it was understood.

    :param kind: Which of the three ways was taken.
    :param principal: Service account that the token is for.
    :param scopes: What was asked for.
    :param token: What was answered, None for a refusal.
    :param bearer: The token that an impersonation came with.
    :param delegates: Service accounts in between, for an impersonation.
    :param subject: User that a key speaks for (domain-wide delegation).
    """

    kind: Literal["key", "metadata", "impersonation"]
    principal: str
    scopes: tuple[str, ...]
    token: str | None
    bearer: str | None = None
    delegates: tuple[str, ...] = ()
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the handler writes: a value, so that what decides about tokens sees no socket."""

    status: int
    body: object
    media_type: str = "application/json"


class _RefusedError(Exception):
    """The request is one that Google refuses; the arguments are status, error and description."""


@dataclass
class TokenServer:
    """Answers for ``oauth2.googleapis.com/token``, for the metadata server and for ``iamcredentials.googleapis.com``.

    In a test take the fixture ``token_server``: it is running, forgets everything before each test, and the test
    process has had it as its metadata server from the start (google-auth reads ``GCE_METADATA_HOST`` when it is
    imported, so a test cannot set that any more).

    - *Key file*: ``write_key(path)`` makes a new key whose ``token_uri`` is this server. Assertions are verified:
      signature, ``iss``, ``aud``, ``scope``, ``iat``, ``exp``.
    - *Application Default Credentials*: ``google.auth.default()`` ends up at the metadata server, as long as
      ``GOOGLE_APPLICATION_CREDENTIALS`` is not set; the fixture removes it.
    - *Impersonation*: give ``iam_endpoint_override=token_server.iam_endpoint(principal)`` to
      ``google.auth.impersonated_credentials.Credentials``. Only a token issued here is accepted as the source.

    Tokens are ``tok-1``, ``tok-2``, ... in the order of their issue. Call ``credentials.refresh(request)``; google-auth's
    ``before_request`` also looks up regional boundaries at Google's real address, in a thread.

    :param expires_in: Seconds until a token expires; google-auth renews one that has less than four minutes left.
    :param refusals: Statuses to answer the next token requests with, one each, before anything is looked at.
    """

    expires_in: int = 3600
    refusals: list[int] = field(default_factory=list)
    requests: list[TokenRequest] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._keys: dict[str, tuple[str, rsa.RSAPublicKey]] = {}
        self._issued = 0
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def host(self) -> str:
        """Value for ``GCE_METADATA_HOST`` and ``GCE_METADATA_IP``."""
        return f"127.0.0.1:{self._http.server_port}"

    @property
    def token_uri(self) -> str:
        """The OAuth token endpoint, as a key file names it."""
        return f"http://{self.host}/token"

    @property
    def tokens(self) -> list[str]:
        """All tokens issued so far, the oldest first."""
        return [request.token for request in self.requests if request.token is not None]

    def iam_endpoint(self, principal: str) -> str:
        """The ``iam_endpoint_override`` for the impersonation of a service account."""
        return f"http://{self.host}/v1/projects/-/serviceAccounts/{principal}:generateAccessToken"

    def environment(self, folder: Path) -> dict[str, str]:
        """Variables that let google-auth in another process find this metadata server and no other credentials.

        :param folder: An empty folder, instead of that of the user's gcloud.
        """
        return {
            "GCE_METADATA_HOST": self.host,
            "GCE_METADATA_IP": self.host,
            "GCE_METADATA_DETECT_RETRIES": "1",
            "CLOUDSDK_CONFIG": str(folder),
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    def write_key(self, path: Path, email: str = "ingestion@project.iam.gserviceaccount.com") -> dict[str, str]:
        """Write the key file of a new service account, and make its public half known here.

        :param path: File to write.
        :param email: Name of the service account.
        :return: The content of the file, as for ``keyfile_dict``.
        """
        private_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        key = {
            "type": "service_account",
            "project_id": "project",
            "private_key_id": f"key-{len(self._keys) + 1}",
            "private_key": private_key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ).decode(),
            "client_email": email,
            "client_id": "1",
            "token_uri": self.token_uri,
        }
        path.write_text(json.dumps(key))
        self._keys[email] = (key["private_key_id"], private_key.public_key())
        return key

    def reset(self) -> None:
        """Forget keys, tokens, requests and refusals."""
        with self._lock:
            self.expires_in, self._issued = 3600, 0
            self._keys.clear()
            self.requests.clear()
            self.refusals.clear()

    def start(self) -> None:
        """Begin to answer; connections that came before wait for it."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering, and free the port."""
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
        self._http.server_close()

    def answer(self, method: str, target: str, headers: Message, body: bytes) -> Answer:
        """Decide about one request."""
        url = urlsplit(target)
        with self._lock:
            try:
                if method == "POST" and url.path == "/token":
                    return self._token_for_key(parse_qs(body.decode()))
                if method == "POST" and (match := _GENERATE_ACCESS_TOKEN.fullmatch(url.path)):
                    return self._token_by_impersonation(match[1], headers, json.loads(body))
                if method == "GET":
                    return self._metadata(url.path, parse_qs(url.query), headers)
            except _RefusedError as refusal:
                status, error, description = refusal.args
                return Answer(status, {"error": error, "error_description": description})
        return Answer(404, {"error": "not_found"})

    def _token_for_key(self, form: dict[str, list[str]]) -> Answer:
        if form.get("grant_type") != [JWT_GRANT]:
            raise _RefusedError(400, "unsupported_grant_type", f"only {JWT_GRANT} is served")
        claims = self._verified_claims(form["assertion"][0])
        scopes = tuple(str(claims["scope"]).split())
        token = self._issue(TokenRequest("key", claims["iss"], scopes, None, subject=claims.get("sub")))
        return Answer(200, {"access_token": token, "expires_in": self.expires_in, "token_type": "Bearer"})

    def _token_by_impersonation(self, principal: str, headers: Message, body: dict[str, Any]) -> Answer:
        bearer = headers.get("Authorization", "").removeprefix("Bearer ")
        if bearer not in self.tokens:
            raise _RefusedError(401, "UNAUTHENTICATED", "the source token was not issued here")
        request = TokenRequest(
            "impersonation", principal, tuple(body["scope"]), None, bearer, tuple(body.get("delegates") or ())
        )
        token = self._issue(request)
        expiry = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + self.expires_in))
        return Answer(200, {"accessToken": token, "expireTime": expiry})

    def _metadata(self, path: str, query: dict[str, list[str]], headers: Message) -> Answer:
        if headers.get("Metadata-Flavor") != "Google":
            raise _RefusedError(403, "forbidden", "Missing Metadata-Flavor: Google header")
        account, _, what = path.removeprefix(_SERVICE_ACCOUNT).partition("/")
        if path == "/":
            return Answer(200, "0.1/\ncomputeMetadata/\n", "application/text")
        if path == "/computeMetadata/v1/project/project-id":
            return Answer(200, METADATA_PROJECT, "application/text")
        if path.startswith(_SERVICE_ACCOUNT) and account in {"default", METADATA_EMAIL}:
            if what == "":
                return Answer(200, {"email": METADATA_EMAIL, "aliases": ["default"], "scopes": ["cloud-platform"]})
            if what == "token":
                scopes = tuple(scope for value in query.get("scopes", []) for scope in value.split(","))
                token = self._issue(TokenRequest("metadata", METADATA_EMAIL, scopes, None))
                return Answer(200, {"access_token": token, "expires_in": self.expires_in, "token_type": "Bearer"})
        raise _RefusedError(404, "not_found", "no such metadata")

    def _issue(self, request: TokenRequest) -> str:
        # Logged first: a refusal is a request too.
        self.requests.append(request)
        if self.refusals:
            raise _RefusedError(self.refusals.pop(0), "refused", "refused as the test wished")
        self._issued += 1
        token = f"tok-{self._issued}"
        fields = {name: getattr(request, name) for name in TokenRequest.__slots__} | {"token": token}
        self.requests[-1] = TokenRequest(**fields)
        return token

    def _verified_claims(self, assertion: str) -> dict[str, Any]:
        try:
            head, payload, signature = (_decoded(part) for part in assertion.split("."))
            header, claims = json.loads(head), json.loads(payload)
            key_id, public_key = self._keys[claims["iss"]]
            signed = assertion.rpartition(".")[0].encode()
            public_key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
        except (ValueError, KeyError, InvalidSignature) as error:
            raise _RefusedError(400, "invalid_grant", f"Invalid JWT Signature. ({type(error).__name__})") from None
        now = time.time()
        if (header.get("alg"), header.get("kid")) != ("RS256", key_id):
            raise _RefusedError(400, "invalid_grant", "the header names another algorithm or key")
        if claims.get("aud") not in {GOOGLE_TOKEN_URI, self.token_uri}:
            raise _RefusedError(400, "invalid_grant", "the assertion is for another audience")
        if not claims["iat"] - 60 <= now < claims["exp"] <= claims["iat"] + 3600:
            raise _RefusedError(400, "invalid_grant", "Token must be a short-lived token (60 minutes)")
        if not claims.get("scope"):
            raise _RefusedError(400, "invalid_scope", "Empty or missing scope not allowed.")
        return dict(claims)


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _handler(server: TokenServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = server.answer(self.command, self.path, self.headers, body)
            content = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
            self.send_response(answer.status)
            self.send_header("Metadata-Flavor", "Google")
            self.send_header("Content-Type", answer.media_type)
            self.send_header("Content-Length", str(len(content.encode())))
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
            """Stay silent: ``requests`` is the log."""

    return Handler
