"""google-auth itself gets tokens from the loopback token server, in each of the three ways."""

from __future__ import annotations

import time
from pathlib import Path

import google.auth
import google.auth.exceptions
import google.auth.transport.requests
import pytest
from google.auth import impersonated_credentials
from google.oauth2 import service_account

from tests.servers.token_server import METADATA_EMAIL, METADATA_PROJECT, TokenServer

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
TARGET = "target@project.iam.gserviceaccount.com"


def request() -> google.auth.transport.requests.Request:
    return google.auth.transport.requests.Request()


def key_credentials(server: TokenServer, folder: Path) -> service_account.Credentials:
    server.write_key(folder / "key.json", "ingestion@project.iam.gserviceaccount.com")
    return service_account.Credentials.from_service_account_file(str(folder / "key.json"), scopes=SCOPES)


def test_a_key_file_gets_a_token(token_server: TokenServer, tmp_path: Path) -> None:
    credentials = key_credentials(token_server, tmp_path)
    credentials.refresh(request())
    assert credentials.token == "tok-1"
    asked = token_server.requests[0]
    assert (asked.kind, asked.principal) == ("key", "ingestion@project.iam.gserviceaccount.com")
    assert asked.scopes == tuple(SCOPES)


def test_every_refresh_gets_another_token_of_the_chosen_lifetime(token_server: TokenServer, tmp_path: Path) -> None:
    token_server.expires_in = 7200
    credentials = key_credentials(token_server, tmp_path)
    before = time.time()
    credentials.refresh(request())
    assert credentials.valid
    token_server.expires_in = 1
    credentials.refresh(request())
    assert credentials.expired  # google-auth counts a token as expired some minutes early
    assert token_server.tokens == ["tok-1", "tok-2"]
    assert time.time() >= before


def test_a_key_that_is_not_known_is_refused(token_server: TokenServer, tmp_path: Path) -> None:
    known = key_credentials(token_server, tmp_path)
    key_credentials(token_server, tmp_path)  # a second key of the same account replaces the first
    with pytest.raises(google.auth.exceptions.RefreshError, match="invalid_grant"):
        known.refresh(request())
    assert token_server.requests == []


def test_a_key_without_scopes_is_refused(token_server: TokenServer, tmp_path: Path) -> None:
    with pytest.raises(google.auth.exceptions.RefreshError, match="invalid_scope"):
        key_credentials(token_server, tmp_path).with_scopes([]).refresh(request())


def test_default_credentials_come_from_the_metadata_server(token_server: TokenServer) -> None:
    credentials, project = google.auth.default(scopes=SCOPES)
    credentials.refresh(request())
    assert (credentials.token, project) == ("tok-1", METADATA_PROJECT)
    assert credentials.service_account_email == METADATA_EMAIL
    assert [(asked.kind, asked.scopes) for asked in token_server.requests] == [("metadata", tuple(SCOPES))]


def test_impersonation_exchanges_the_source_token(token_server: TokenServer, tmp_path: Path) -> None:
    credentials = impersonated_credentials.Credentials(
        key_credentials(token_server, tmp_path),
        TARGET,
        SCOPES,
        delegates=["between@project.iam.gserviceaccount.com"],
        iam_endpoint_override=token_server.iam_endpoint(TARGET),
    )
    credentials.refresh(request())
    assert credentials.token == "tok-2"
    asked = token_server.requests[-1]
    assert (asked.kind, asked.principal, asked.bearer) == ("impersonation", TARGET, "tok-1")
    assert asked.delegates == ("between@project.iam.gserviceaccount.com",)


def test_a_refusal_happens_once_and_is_logged(token_server: TokenServer, tmp_path: Path) -> None:
    token_server.refusals.append(403)
    credentials = key_credentials(token_server, tmp_path)
    with pytest.raises(google.auth.exceptions.RefreshError):
        credentials.refresh(request())
    credentials.refresh(request())
    assert [asked.token for asked in token_server.requests] == [None, "tok-1"]
    assert token_server.refusals == []
