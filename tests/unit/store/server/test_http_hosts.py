"""Which names a server answers to, and whose pages may ask it."""

from __future__ import annotations

import socket

import pytest

from pfitre_service.store.server.http_hosts import AllowedHosts

HOSTS = AllowedHosts.from_settings("0.0.0.0", ("Tomo.Example.org", "tiled"))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8010",
        "localhost",
        "LOCALHOST:1",
        "[::1]:8010",
        "192.168.3.4:8010",
        "tiled:8010",
        "tomo.example.org",
        "tomo.example.org.:443",
        socket.gethostname(),
    ],
)
def test_a_server_is_known_by_addresses_its_own_and_configured_names(host):
    assert HOSTS.refusal([host], []) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8010",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "tomo.example.org.evil",
        "user@127.0.0.1",
        "127.0.0.1/x",
        "127.0.0.1:99999",
        "[::1",
        "",
        " ",
    ],
)
def test_any_other_name_is_refused(host):
    assert HOSTS.refusal([host], []) is not None


def test_one_host_header_is_expected_and_the_name_and_the_setting_are_told():
    assert "one Host header" in (HOSTS.refusal([], []) or "")
    assert "one Host header" in (HOSTS.refusal(["localhost", "evil.example"], []) or "")
    told = HOSTS.refusal(["evil.example"], []) or ""
    assert "'evil.example'" in told
    assert "tiled.allowed_hosts" in told
    assert len(HOSTS.refusal(["x" * 9999], []) or "") < 400


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8010", "http://127.0.0.1:8010"),
        ("localhost:8010", "http://LOCALHOST:8010"),
        ("192.168.3.4", "http://192.168.3.4"),
        ("192.168.3.4", "http://192.168.3.4:80"),
        ("tomo.example.org", "https://tomo.example.org"),
        ("127.0.0.1:8010", "https://tomo.example.org"),
        ("[::1]:8010", "http://[::1]:8010"),
    ],
)
def test_a_page_of_this_server_or_of_the_proxy_before_it_may_ask(host, origin):
    assert HOSTS.refusal([host], [origin]) is None


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8010", "http://evil.example"),
        ("127.0.0.1:8010", "http://127.0.0.1:3000"),
        ("127.0.0.1:8010", "http://localhost:8010"),
        ("127.0.0.1:8010", "null"),
        ("127.0.0.1:8010", "file://"),
        ("127.0.0.1:8010", "http://127.0.0.1:8010.evil.example"),
        ("127.0.0.1:8010", "http://127.0.0.1:8010@evil.example"),
        ("127.0.0.1:8010", "chrome-extension://127.0.0.1:8010"),
        ("tomo.example.org", "http://tomo.example.org.evil"),
    ],
)
def test_pages_of_other_sites_may_not(host, origin):
    assert HOSTS.refusal([host], [origin]) is not None
