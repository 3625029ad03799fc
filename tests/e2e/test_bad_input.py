"""Bad input at the webhook door: each kind has its status, its verdict and its text, and never a 500."""

import json
import socket
import uuid

import pytest

from tests.e2e.process import Daemon, branch_payload


def test_a_body_that_is_not_json_is_400_and_the_text_says_where(daemon: Daemon) -> None:
    status, answer = daemon.hook(b'{"ref": }')
    assert status == 400
    assert answer["reason"] == "the body is not JSON: line 1, column 9"


def test_a_body_over_the_limit_is_413_whether_or_not_its_length_is_announced(daemon: Daemon) -> None:
    assert daemon.hook(b"x" * 20_001)[0] == 413
    with socket.create_connection(("127.0.0.1", daemon.http_port), timeout=10) as connection:
        head = b"POST /hooks/github HTTP/1.1\r\nHost: lhd\r\nX-Hub-Signature-256: sha256=0\r\n"
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"5000\r\n" + b"x" * 0x5000 + b"\r\n0\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_an_unknown_path_is_404_and_another_method_405_with_allow(daemon: Daemon) -> None:
    assert daemon.request("POST", "/hooks/none")[0] == 404
    status, headers, _ = daemon.request("GET", "/hooks/github")
    assert (status, headers["allow"]) == (405, "POST")


def test_a_media_type_that_cannot_be_decoded_is_415(daemon: Daemon) -> None:
    status, _ = daemon.hook(b"<x/>", headers={"Content-Type": "application/xml"})
    assert status == 415


@pytest.mark.parametrize("signature", ["", "sha256=", "sha256=zz", "sha1=abc", "é", "sha256=" + "0" * 64])
def test_a_malformed_signature_is_401(daemon: Daemon, signature: str) -> None:
    headers = {"X-Hub-Signature-256": signature.encode().decode("latin-1")}
    assert daemon.hook(branch_payload("x"), headers=headers)[0] == 401


def test_a_missing_signature_is_401_and_looks_like_a_wrong_one(daemon: Daemon) -> None:
    body = json.dumps(branch_payload("x")).encode()
    status, _, answer = daemon.request("POST", "/hooks/github", body, {"Content-Type": "application/json"})
    assert (status, json.loads(answer)) == (401, {"reason": "unauthorized"})


def test_a_signal_that_no_route_takes_is_filtered(daemon: Daemon) -> None:
    status, answer = daemon.hook({"zen": "Keep it logically awesome."}, event="ping")
    assert (status, answer["verdict"]) == (202, "filtered")


def test_an_event_def_that_does_not_exist_makes_a_dead_letter(daemon: Daemon) -> None:
    status, answer = daemon.hook({"run": "r"}, event="unknown")
    assert (status, answer["verdict"]) == (422, "dead")
    assert answer["reason"] == "there is no ExternalEventDef 'no-such-event'"


def test_content_of_another_type_makes_a_dead_letter_that_names_both_types(daemon: Daemon) -> None:
    status, answer = daemon.hook({"run": "r", "value": {"a": 1}}, event="typed")
    assert (status, answer["verdict"]) == (422, "dead")
    assert answer["reason"].endswith("ExternalEventDef 'approved': JSON_OBJ given, STR expected")


def test_a_field_that_the_mapping_needs_and_the_body_lacks_makes_a_dead_letter(daemon: Daemon) -> None:
    status, answer = daemon.hook({"run": "r"}, event="typed")
    assert (status, answer["verdict"]) == (422, "dead")
    assert answer["reason"] == "content: there is no 'value'"


def test_a_dead_delivery_can_come_again_and_be_accepted_once_its_cause_is_gone(daemon: Daemon) -> None:
    delivery = str(uuid.uuid4())
    first = daemon.hook({"run": "r", "value": 1.5, "note": "x"}, event="unknown", delivery=delivery)
    again = daemon.hook({"run": "r", "value": 1.5, "note": "x"}, event="unknown", delivery=delivery)
    assert (again[0], again[1]["id"]) == (422, first[1]["id"])


def test_the_same_identity_with_another_body_is_409(daemon: Daemon) -> None:
    delivery = str(uuid.uuid4())
    daemon.hook({"run": "r", "value": "a"}, event="typed", delivery=delivery)
    status, answer = daemon.hook({"run": "r", "value": "b"}, event="typed", delivery=delivery)
    assert (status, answer["verdict"]) == (409, "conflict")


def test_explain_tells_the_story_of_a_dead_delivery_without_its_payload(daemon: Daemon) -> None:
    _, answer = daemon.hook({"run": "r", "value": {"password": "hunter2"}}, event="typed")
    told = daemon.lhd("explain", answer["id"])
    assert told.returncode == 0
    assert "verdict dead" in told.stdout
    assert "JSON_OBJ given, STR expected" in told.stdout
    assert "hunter2" not in told.stdout + daemon.log.read_text()


def test_what_the_door_refused_is_counted_by_reason(daemon: Daemon) -> None:
    def refused() -> int:
        status = json.loads(daemon.lhd("status", "--json").stdout)
        return int(status["sources"][0]["refused"].get("signature", 0))

    before = refused()
    daemon.hook(branch_payload("x"), secret=b"guess")
    assert refused() == before + 1


def test_no_secret_is_ever_in_the_log(daemon: Daemon) -> None:
    daemon.hook(branch_payload("x"))
    daemon.hook(branch_payload("x"), secret=b"guess")
    assert "Secret to Everybody" not in daemon.log.read_text()
