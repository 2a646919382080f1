"""Base URLs and the URLs built on them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dicomweb.dicomweb.addresses import BaseUrl, is_loopback
from airflow_dicomweb.errors import ConfigurationError


@pytest.mark.parametrize(
    ("given_url", "text", "host"),
    [
        ("http://pacs:8042/dicom-web", "http://pacs:8042/dicom-web", "pacs"),
        ("HTTPS://PACS.Example/dicom-web//", "https://pacs.example/dicom-web", "pacs.example"),
        ("http://[::1]:8042", "http://[::1]:8042", "::1"),
        ("https://healthcare.googleapis.com", "https://healthcare.googleapis.com", "healthcare.googleapis.com"),
        ("http://127.0.0.1/a%20b", "http://127.0.0.1/a%20b", "127.0.0.1"),
    ],
)
def test_a_base_url_is_read(given_url: str, text: str, host: str):
    base = BaseUrl.parse(given_url)
    assert (base.text, base.host) == (text, host)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "pacs",
            "pacs:8042",
            "/dicom-web",
            "ftp://pacs",
            "file:///etc/passwd",
            "http://",
            "http:///x",
            "http://:80",
        ),
        *("http://pacs:port", "http://pacs:99999", "http://pacs:0", "http://pa cs", "http://pacs\n", "http://pacs\\x"),
        *(
            "http://user@pacs",
            "http://user:hunter2@pacs",
            "http://pacs?x=1",
            "http://pacs?",
            "http://pacs#x",
            "http://pacs#",
        ),
        *("http://pacs/../x", "http://pacs/%2e%2e/x", "http://päcs", "http://[::1", None, b"http://pacs", 5),
    ],
)
def test_what_is_no_base_url_is_refused_without_being_shown(url: object):
    with pytest.raises(ConfigurationError, match="URL") as caught:
        BaseUrl.parse(url)
    assert "hunter2" not in str(caught.value)


def test_urls_are_built_under_the_base():
    base = BaseUrl.parse("http://pacs/dicom-web/")
    assert base.url("studies") == base.url("/studies") == "http://pacs/dicom-web/studies"
    assert base.url("") == "http://pacs/dicom-web"
    assert BaseUrl.parse("http://pacs").url("") == "http://pacs/"
    assert base.url("studies", [("a", "1"), ("a", "2")]) == "http://pacs/dicom-web/studies?a=1&a=2"


@pytest.mark.parametrize("url", ["http://pacs/bulk/1", "http://PACS:80/bulk/1", "HTTP://pacs/bulk/1"])
def test_a_whole_url_of_the_same_server_is_taken_without_its_base_path(url: str):
    assert BaseUrl.parse("http://pacs/dicom-web").url(url) == "http://pacs/bulk/1"


@pytest.mark.parametrize(
    "url",
    [
        "https://pacs/x",
        "http://pacs:8042/x",
        "http://pacs.example/x",
        "http://pacs@evil/x",
        "http://evil/?http://pacs/",
        "//evil/x",
    ],
)
def test_a_url_of_another_server_is_refused(url: str):
    with pytest.raises(ConfigurationError):
        BaseUrl.parse("http://pacs/dicom-web").url(url)


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8), min_size=1, max_size=4))
def test_a_path_is_refused_or_keeps_its_segments(segments: list[str]):
    from urllib.parse import unquote, urlsplit

    path = "/".join(segments)
    try:
        url = BaseUrl.parse("http://pacs/base").url(path)
    except ConfigurationError:
        return
    parts = urlsplit(url)
    assert (parts.netloc, parts.query, parts.fragment) == ("pacs", "", "")
    assert unquote(parts.path).startswith("/base/")
    assert not {".", ".."} & set(unquote(parts.path).split("/"))


@pytest.mark.parametrize("host", ["localhost", "LocalHost.", "a.localhost", "127.0.0.1", "127.255.0.3", "::1", "[::1]"])
def test_this_machine_is_known(host: str):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "localhost.example", "127.0.0.1.example", "0.0.0.0", "10.0.0.1", "::", "fe80::1", "notlocalhost"]
)
def test_other_machines_are_known(host: str):
    assert not is_loopback(host)
