"""Requests that reach the dashboard: host, token, origin, read-only. Each refused one would delete the study."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path

import optuna
import pytest

from dashboards.access import is_known_host
from dashboards.web import DashboardServer, make_server
from search_spaces._common.errors import UserError

TOKEN = "a-token-of-the-tests"


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(study_name="kept", storage=optuna.storages.InMemoryStorage())


@pytest.fixture(params=[False, True], ids=["writable", "read-only"])
def read_only(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def server(read_only: bool, study: optuna.Study, tmp_path: Path) -> Iterator[DashboardServer]:
    made = make_server(study._storage, tmp_path, port=0, token=TOKEN, read_only=read_only)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def ask(server: DashboardServer, method: str, path: str, **headers: str) -> tuple[HTTPResponse, bytes]:
    """Send a request as a browser or a script may; ``Host`` is the server's own unless given."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    named = {"Host": f"127.0.0.1:{server.server_port}"} | {
        name.replace("_", "-"): text for name, text in headers.items()
    }
    connection.request(method, path, headers=named)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_only_who_has_the_token_reads_a_study(server: DashboardServer) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"paretoseg-{server.server_port}=wrong; x"}):
        for path in ("/dashboard", "/api/studies", "/api/studies?token=wrong", "/csv/0", "/static/bundle.js"):
            answer, body = ask(server, "GET", path, **headers)
            assert answer.status == 403 and b"kept" not in body and TOKEN.encode() not in body, path
    assert b"kept" in ask(server, "GET", "/api/studies", Authorization=f"Bearer {TOKEN}")[1]
    assert b"kept" in ask(server, "GET", f"/api/studies?token={TOKEN}")[1]


def test_the_printed_url_opens_the_page_and_leaves_no_token_in_the_address(server: DashboardServer) -> None:
    path = "/" + server.address.split("/", 3)[3]
    assert TOKEN in path
    answer, _ = ask(server, "GET", path)
    assert (answer.status, answer.headers["Location"]) == (303, "/dashboard")
    cookie, *attributes = answer.headers["Set-Cookie"].split("; ")
    assert "HttpOnly" in attributes and "SameSite=Lax" in attributes
    answer, body = ask(server, "GET", "/dashboard", Cookie=f"other=1; {cookie}")
    assert answer.status == 200 and b"<html" in body.lower() and answer.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert b"kept" in ask(server, "GET", "/api/studies", Cookie=cookie)[1]


@pytest.mark.parametrize("name", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "0x7f.1", ""])
def test_a_name_that_was_pointed_to_this_machine_reaches_nothing(server: DashboardServer, name: str) -> None:
    answer, body = ask(server, "GET", f"/api/studies?token={TOKEN}", Host=name)
    assert answer.status == 403 and b"kept" not in body


@pytest.mark.parametrize(
    "sender", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"}, "another port"]
)
def test_a_page_of_another_origin_changes_nothing(
    server: DashboardServer, study: optuna.Study, sender: dict[str, str] | str
) -> None:
    headers = {"Origin": f"http://127.0.0.1:{server.server_port + 1}"} if isinstance(sender, str) else sender
    cookie = f"paretoseg-{server.server_port}={TOKEN}"
    for method, path in (("DELETE", f"/api/studies/{study._study_id}"), ("POST", "/api/studies")):
        assert ask(server, method, path, Cookie=cookie, **headers)[0].status == 403
    assert [item.study_name for item in study._storage.get_all_studies()] == ["kept"]


def test_a_study_is_deleted_by_its_own_page_unless_read_only(
    server: DashboardServer, study: optuna.Study, read_only: bool
) -> None:
    own = {"Origin": f"http://127.0.0.1:{server.server_port}", "Sec_Fetch_Site": "same-origin"}
    path = f"/api/studies/{study._study_id}"
    answer, body = ask(server, "DELETE", path, Cookie=f"paretoseg-{server.server_port}={TOKEN}", **own)
    left = json.loads(ask(server, "GET", f"/api/studies?token={TOKEN}")[1])["study_summaries"]
    if read_only:
        assert answer.status == 403 and b"--read-only" in body and len(left) == 1
    else:
        assert answer.status == 204 and left == []


def test_hosts_of_a_server_that_listens_everywhere() -> None:
    assert is_known_host("192.168.1.20:8080", "0.0.0.0") and is_known_host("[fe80::1]:8080", "0.0.0.0")
    assert is_known_host("localhost:9000", "192.168.1.20"), "a tunnel"
    assert not is_known_host("evil.example", "0.0.0.0") and not is_known_host("192.168.1.20", "127.0.0.1")


def test_a_token_that_could_be_guessed_is_refused_without_being_shown(study: optuna.Study, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="16 at least") as caught:
        make_server(study._storage, tmp_path, port=0, token="hunter2")
    assert "hunter2" not in str(caught.value)
