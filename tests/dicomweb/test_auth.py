"""Credentials that need no server."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from airflow_dicomweb.dicomweb.auth import Anonymous, Basic, Bearer, Credentials
from airflow_dicomweb.errors import ConfigurationError


def test_nobody_sends_nothing():
    credentials: Credentials = Anonymous()
    assert (credentials.headers(), credentials.identity, credentials.refresh()) == ({}, "nobody", False)


def test_a_user_and_a_password_are_sent_as_utf_8():
    credentials: Credentials = Basic("user", "pässwörd: ")
    assert credentials.headers() == {"Authorization": "Basic dXNlcjpww6Rzc3fDtnJkOiA="}
    assert (credentials.identity, credentials.refresh()) == ("basic user 'user'", False)


def test_a_token_is_sent_as_it_is():
    credentials: Credentials = Bearer("ya29.token-_~+/=")
    assert credentials.headers() == {"Authorization": "Bearer ya29.token-_~+/="}
    assert (credentials.identity, credentials.refresh()) == ("bearer token", False)


@pytest.mark.parametrize("credentials", [Basic("user", "hunter2"), Bearer("hunter2")])
def test_secrets_are_not_shown(credentials: Credentials):
    assert "hunter2" not in f"{credentials!r} {credentials} {credentials.identity}"
    assert pickle.loads(pickle.dumps(credentials)) == credentials


@pytest.mark.parametrize(
    ("user", "password"), [("", "p"), ("a:b", "p"), ("a\nb", "p"), ("a", "p\r\nX: y"), (None, "p"), ("a", None)]
)
def test_a_user_or_password_that_a_header_cannot_carry_is_refused(user: str, password: str):
    with pytest.raises(ConfigurationError, match="basic authentication"):
        Basic(user, password)


@pytest.mark.parametrize("token", ["", " ", "to ken", "token\n", "tökén", None, b"token"])
def test_a_token_that_a_header_cannot_carry_is_refused_without_being_shown(token: str):
    with pytest.raises(ConfigurationError, match="bearer token") as caught:
        Bearer(token)
    assert "ken" not in str(caught.value).replace("token", "")


def test_credentials_load_no_http_library_before_they_are_used():
    code = (
        "import sys; from airflow_dicomweb.dicomweb.auth import Basic, Google; Google(key_path='/nowhere');"
        "print([name for name in ('requests', 'google.auth', 'urllib3') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
