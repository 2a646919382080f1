"""Google accounts against a token server on this machine; google-auth itself does the talking."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_dicomweb.dicomweb.google_account import CLOUD_PLATFORM, Google
from airflow_dicomweb.dicomweb.retries import is_settled
from airflow_dicomweb.errors import AuthorizationError, ConfigurationError, TransportError
from tests.dicomweb.transports import transport
from tests.servers.faulty import Fault, faulty
from tests.servers.token_server import METADATA_EMAIL, TokenServer

pytestmark = pytest.mark.filterwarnings("ignore:The load_credentials_from_dict method:DeprecationWarning")

EMAIL = "ingestion@project.iam.gserviceaccount.com"
TARGET = "target@project.iam.gserviceaccount.com"
BETWEEN = "between@project.iam.gserviceaccount.com"


@pytest.fixture
def key(token_server: TokenServer, tmp_path: Path) -> Path:
    token_server.write_key(tmp_path / "key.json", EMAIL)
    return tmp_path / "key.json"


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_nothing_is_read_or_sent_before_the_first_request(token_server: TokenServer, key: Path):
    Google(key_path="/nowhere/key.json")
    Google()
    account = Google(key_path=key)
    assert account.identity == "service account key"
    assert token_server.requests == []
    assert account.headers() == bearer("tok-1")
    assert account.identity == EMAIL


@pytest.mark.parametrize(
    "form", ["key_path", "key_info", "key_info as text", "config file", "config", "config as text"]
)
def test_a_key_in_every_form_gets_a_token(token_server: TokenServer, key: Path, form: str):
    text = key.read_text()
    account = {
        "key_path": lambda: Google(key_path=str(key)),
        "key_info": lambda: Google(key_info=json.loads(text)),
        "key_info as text": lambda: Google(key_info=text),
        "config file": lambda: Google(credential_config_file=key),
        "config": lambda: Google(credential_config_file=json.loads(text)),
        "config as text": lambda: Google(credential_config_file=text),
    }[form]()
    assert account.headers() == bearer("tok-1")
    assert account.identity == EMAIL
    (asked,) = token_server.requests
    assert (asked.kind, asked.principal, asked.scopes) == ("key", EMAIL, (CLOUD_PLATFORM,))


def test_scopes_are_those_that_were_chosen(token_server: TokenServer, key: Path):
    Google(key_path=key, scopes="https://a, https://b").headers()
    Google(key_path=key, scopes=["https://c"]).headers()
    assert [asked.scopes for asked in token_server.requests] == [("https://a", "https://b"), ("https://c",)]


def test_without_a_key_the_metadata_server_is_asked(token_server: TokenServer):
    account = Google()
    assert account.identity == "application default credentials"
    assert account.headers() == bearer("tok-1")
    assert account.identity == METADATA_EMAIL
    assert [(asked.kind, asked.scopes) for asked in token_server.requests] == [("metadata", (CLOUD_PLATFORM,))]


def test_without_any_credentials_the_message_says_what_can_be_given(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/DOE.json")
    with pytest.raises(
        ConfigurationError, match="no Google credentials were found: give a service account key"
    ) as caught:
        Google().headers()
    assert "DOE" not in str(caught.value)


@pytest.mark.parametrize("source", ["key", "metadata"])
@pytest.mark.parametrize(
    ("chain", "delegates"),
    [
        (TARGET, ()),
        ([TARGET], ()),
        (f"{BETWEEN}, {TARGET}", (BETWEEN,)),
        ([BETWEEN, TARGET], (BETWEEN,)),
    ],
)
def test_the_last_of_a_chain_is_acted_as_and_the_others_are_delegates(
    token_server: TokenServer, key: Path, source: str, chain: str | list[str], delegates: tuple[str, ...]
):
    account = Google(
        key_path=key if source == "key" else None,
        impersonation_chain=chain,
        iam_endpoint=f"http://{token_server.host}/",
    )
    assert account.identity == TARGET
    assert account.headers() == bearer("tok-2")
    first, second = token_server.requests
    assert (first.kind, second.kind, second.bearer) == (source, "impersonation", "tok-1")
    assert (second.principal, second.delegates, second.scopes) == (TARGET, delegates, (CLOUD_PLATFORM,))


def test_an_impersonation_that_is_refused_names_its_target_and_the_reason(key: Path):
    body = b'{"error": {"code": 403, "message": "getAccessToken denied", "status": "PERMISSION_DENIED"}}'
    with faulty(Fault(403, body=body)) as iam:
        account = Google(key_path=key, impersonation_chain=TARGET, iam_endpoint=iam.url)
        with pytest.raises(AuthorizationError, match=r"403.*PERMISSION_DENIED: getAccessToken denied") as caught:
            account.headers()
    assert caught.value.identity == TARGET
    assert iam.received[0].line == f"POST /v1/projects/-/serviceAccounts/{TARGET}:generateAccessToken"


def test_netrc_does_not_replace_the_token_of_an_impersonation(
    key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login intruder password intruder\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    body = b'{"accessToken": "impersonated", "expireTime": "2999-01-01T00:00:00Z"}'
    with faulty(Fault(body=body)) as iam:
        account = Google(key_path=key, impersonation_chain=TARGET, iam_endpoint=iam.url)
        assert account.headers() == bearer("impersonated")
    assert iam.received[0].header("authorization") == ["Bearer tok-1"]


def test_the_quota_project_is_named_in_every_request(token_server: TokenServer, key: Path):
    expected = bearer("tok-1") | {"x-goog-user-project": "billing"}
    assert Google(key_path=key, quota_project_id="billing").headers() == expected


def test_a_token_serves_until_it_is_about_to_expire(token_server: TokenServer, key: Path):
    account = Google(key_path=key)
    assert [account.headers() for _ in range(5)] == [bearer("tok-1")] * 5
    token_server.expires_in = 0
    account.refresh()
    assert [account.headers() for _ in range(3)] == [bearer("tok-2"), bearer("tok-3"), bearer("tok-4")]


def test_a_token_that_still_serves_is_used_when_no_new_one_comes(token_server: TokenServer, key: Path):
    token_server.expires_in = 100  # google-auth renews from 225 s before the end
    account = Google(key_path=key)
    assert account.headers() == bearer("tok-1")
    token_server.refusals.extend([503, 503, 503])
    assert account.headers() == bearer("tok-1")
    assert token_server.refusals == []
    assert account.headers() == bearer("tok-2")


def test_many_threads_share_one_token(token_server: TokenServer, key: Path):
    account, barrier = Google(key_path=key), threading.Barrier(8)

    def ask(_: int) -> dict[str, str]:
        barrier.wait(timeout=30)
        return account.headers()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [bearer("tok-1")] * 8
    assert len(token_server.requests) == 1


def test_threads_that_were_refused_with_the_same_token_cause_one_renewal(token_server: TokenServer, key: Path):
    account, barrier = Google(key_path=key), threading.Barrier(8)

    def ask(_: int) -> dict[str, str]:
        account.headers()
        barrier.wait(timeout=30)
        assert account.refresh()
        return account.headers()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [bearer("tok-2")] * 8
    assert token_server.tokens == ["tok-1", "tok-2"]


def test_a_server_that_refuses_a_token_gets_a_new_one_once(token_server: TokenServer, key: Path):
    account = Google(key_path=key)
    with faulty(Fault(401)) as server, transport(server, credentials=account) as client:
        assert client.send("GET", "studies").status == 200
        server.script.extend([Fault(401)] * 5)
        with pytest.raises(AuthorizationError) as caught:
            client.send("GET", "studies")
    sent = [request.header("authorization")[0].removeprefix("Bearer ") for request in server.received]
    assert sent == ["tok-1", "tok-2", "tok-2", "tok-3"]
    assert caught.value.identity == EMAIL


def test_a_key_that_was_replaced_is_read_again_after_a_401(token_server: TokenServer, key: Path):
    account = Google(key_path=key)
    account.headers()
    token_server.write_key(key, "second@project.iam.gserviceaccount.com")
    account.refresh()
    account.headers()
    assert account.identity == "second@project.iam.gserviceaccount.com"


def test_a_revoked_key_is_refused_with_the_servers_reason_and_without_secrets(token_server: TokenServer, key: Path):
    info = json.loads(key.read_text())
    account = Google(key_path=key)
    token_server.reset()
    with (
        faulty() as server,
        transport(server, credentials=account) as client,
        pytest.raises(AuthorizationError) as caught,
    ):
        client.send("GET", "studies", query=[("PatientName", "DOE^JANE")])
    assert server.received == []
    message = str(caught.value)
    assert message.startswith(
        f"POST {token_server.token_uri} was answered with 400 (sent as {EMAIL}): invalid_grant: Invalid JWT Signature."
    )
    assert info["private_key"][30:60] not in message
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_a_token_server_that_hesitates_is_asked_again(token_server: TokenServer, key: Path):
    token_server.refusals.append(503)
    assert Google(key_path=key).headers() == bearer("tok-1")
    assert len(token_server.requests) == 2


def test_a_token_server_that_nobody_can_reach_is_given_up_once(key: Path):
    info = json.loads(key.read_text()) | {"token_uri": "http://127.0.0.1:1/token"}
    account = Google(key_info=info)
    with faulty() as server, transport(server, credentials=account) as client, pytest.raises(TransportError) as caught:
        client.send("GET", "studies")
    assert str(caught.value).startswith(
        "no answer from the token server at http://127.0.0.1:1/token; gave up after 4 attempts in "
    )
    assert is_settled(caught.value)
    assert server.received == []


def test_what_is_no_key_is_refused_without_being_shown(tmp_path: Path, key: Path):
    path = tmp_path / "DOE^JANE.json"
    for content in ("secret words", "[]", '{"type": "service_account", "private_key": "hunter2"}', "\udcff"):
        path.write_text(content, errors="surrogateescape")
        for account in (Google(key_path=path), Google(credential_config_file=path)):
            with pytest.raises(ConfigurationError, match="Google credentials") as caught:
                account.headers()
            assert not {"secret", "hunter2", "DOE"} & set(str(caught.value).replace("/", " ").split())
            assert caught.value.__cause__ is caught.value.__context__ is None
    broken = json.loads(key.read_text()) | {"private_key": "-----BEGIN PRIVATE KEY-----\nhunter2\n"}
    with pytest.raises(ConfigurationError) as caught:
        Google(key_info=broken).headers()
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_not_there_is_said_so_without_its_path():
    for account in (Google(key_path="/nowhere/DOE.json"), Google(credential_config_file="/nowhere/DOE.json")):
        with pytest.raises(ConfigurationError, match="cannot be read: No such file or directory") as caught:
            account.headers()
        assert "DOE" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"key_path": "a", "key_info": {"b": "c"}}, "only one of"),
        ({"key_path": "a", "credential_config_file": "b"}, "only one of"),
        ({"key_info": "no json"}, "key_info"),
        ({"key_info": "[1]"}, "key_info"),
        ({"credential_config_file": "{no json"}, "credential_config_file"),
        ({"impersonation_chain": "nobody"}, "impersonation_chain"),
        ({"impersonation_chain": f"{TARGET},a/b@c"}, "impersonation_chain"),
        ({"iam_endpoint": "http://iam.example"}, "iam_endpoint"),
        ({"iam_endpoint": "https://user@iam.example"}, "iam_endpoint"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused_at_once(options: dict[str, object], words: str):
    with pytest.raises(ConfigurationError, match=words):
        Google(**options)


def test_empty_arguments_are_as_none(token_server: TokenServer):
    account = Google(key_path="", key_info="", credential_config_file="", impersonation_chain="", scopes="")
    assert account.headers() == bearer("tok-1")
    assert token_server.requests[0].kind == "metadata"


def test_an_account_shows_no_key(key: Path):
    account = Google(key_info=key.read_text(), impersonation_chain=[TARGET])
    assert repr(account) == f"Google({TARGET})"
    assert "PRIVATE" not in repr(vars(account)["_chain"]) + str(account)
