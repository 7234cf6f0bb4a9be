"""The control API of a running gateway: what its README shows works as printed, and what it changes is served within seconds."""

import http.client
import json
import re
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.state import clock
from tests.conftest import ROOT
from tests.e2e import callers
from tests.e2e.world import MODELS, Answer, Demo, change, fp32, in_parallel, read_answer, serving, until

pytestmark = pytest.mark.triton

README = ROOT / "tenants" / "api" / "README.md"
LIVE_SECONDS = 5


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with serving(tmp_path_factory.mktemp("control") / "state", MODELS) as running:
        yield running


def control(demo: Demo, method: str, path: str, body: Any = None, *, by: str = "", **headers: str) -> Answer:
    """As the operator, or at the public listener by that key."""
    address = demo.address if by else demo.operator.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=10)
    sent = {"x-api-key": by or demo.operator_key, "content-type": "application/json"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    content = None if body is None else json.dumps(body).encode()
    try:
        connection.request(method, f"/control/v1{path}", content, sent)
        return read_answer(connection)
    finally:
        connection.close()


def test_every_example_of_the_readme_works_as_it_is_printed(demo: Demo) -> None:
    change(demo.state, partial(callers.data_key, "demo", "audit"))
    blocks = re.findall(r"<!-- example.*? -->\n```sh\n(.*?)```", README.read_text(), re.DOTALL)
    script = 'set -euo pipefail\ncurl() { command curl --fail-with-body "$@"; }\n' + "".join(blocks)
    script = script.replace("http://127.0.0.1:8090", demo.operator)
    script = script.replace("http://127.0.0.1:8080", f"http://{demo.address}")
    done = subprocess.run(
        ["bash", "-c", script.replace("digits", "echo_fp32")],
        env={"PATH": "/usr/bin:/bin", "OPERATOR_KEY": demo.operator_key},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (done.stdout[-1000:], done.stderr)
    assert len(blocks) == 1 + len(re.findall("<!-- example: ", README.read_text()))


def test_a_new_tenants_key_calls_a_model_within_five_seconds_and_its_revoked_key_none(demo: Demo) -> None:
    assert control(demo, "POST", "/tenants", {"name": "fresh", "plan": "demo"}).status == 201
    made = control(demo, "POST", "/tenants/fresh/keys", {"name": "ci"})
    key, started = made.json["api_key"], clock()
    answer = demo.call("/v2/models/echo_fp32/infer", fp32(1.5), key=key)
    assert answer.status == 200, answer.body
    assert clock() - started < 60  # with a Triton that starts
    started = clock()
    until(lambda: demo.call("/v2", key=key).status == 200, LIVE_SECONDS)
    control(demo, "POST", f"/tenants/fresh/keys/{made.json['id']}/revoke")
    until(lambda: demo.call("/v2", key=key).status == 401, LIVE_SECONDS, "a revoked key went on")
    assert clock() - started < LIVE_SECONDS


def test_a_plan_that_is_put_is_the_limit_within_five_seconds(demo: Demo) -> None:
    plan = {"weight": 1, "limits": {"body_bytes": 10}}
    assert control(demo, "PUT", "/plans/narrow", plan, if_none_match="*").status == 201
    control(demo, "POST", "/tenants", {"name": "moved", "plan": "demo"})
    key = control(demo, "POST", "/tenants/moved/keys", {}).json["api_key"]
    tag = control(demo, "GET", "/tenants/moved").headers["etag"]
    assert demo.infer("echo_fp32", fp32(1.5), key=key).status == 200
    assert control(demo, "PATCH", "/tenants/moved", {"plan": "narrow"}, if_match=tag).status == 200
    until(lambda: demo.infer("echo_fp32", fp32(1.5), key=key).status == 413, LIVE_SECONDS)


def test_fifty_equal_requests_over_sockets_make_one_key(demo: Demo) -> None:
    control(demo, "POST", "/tenants", {"name": "eager", "plan": "demo"})

    def ask() -> Answer:
        return control(demo, "POST", "/tenants/eager/keys", {"name": "one"}, idempotency_key="fifty")

    answers = in_parallel([ask] * 50)
    assert {answer.status for answer in answers} == {201}
    assert len({answer.json["id"] for answer in answers}) == 1
    assert sum(answer.json["api_key"] is not None for answer in answers) == 1
    assert len(control(demo, "GET", "/tenants/eager/keys").json["items"]) == 1


def test_a_keys_text_is_told_once_and_is_nowhere_else(demo: Demo) -> None:
    control(demo, "POST", "/tenants", {"name": "secretive", "plan": "demo"})
    account = control(demo, "POST", "/tenants/secretive/accounts", {"name": "a", "role": "admin"}).json["id"]
    told = []
    for path, body in (
        ("/tenants/secretive/keys", {"account": account}),
        ("/operator/keys", {"expires_seconds": 3600}),  # the demo's own key has an end
    ):
        made = [control(demo, "POST", path, body, idempotency_key=f"plant{path}") for _ in (1, 2)]
        rotate = f"{path}/{made[0].json['id']}/rotate"
        made += [control(demo, "POST", rotate, {}, idempotency_key=f"turn{path}") for _ in (1, 2)]
        assert [answer.json["api_key"] is None for answer in made] == [False, True, False, True]
        told += [answer.json["api_key"] for answer in made if answer.json["api_key"]]
    admin = told[0]
    assert control(demo, "GET", "/whoami", by=admin).json["role"] == "admin"
    said = [demo.call("/v2/models/echo_fp32/infer", fp32(1.5), key=admin).body]
    said += [
        control(demo, "GET", path).body for path in ("/audit", "/operator/keys", "/tenants/secretive/keys")
    ]
    said += [control(demo, "GET", "/tenants/secretive/audit", by=admin).body]
    said += [control(demo, "POST", "/tenants", {"name": 5}, by=admin).body]
    said += [control(demo, "GET", "/tenants/other", by=admin).body]
    connection = http.client.HTTPConnection(demo.operator.removeprefix("http://"), timeout=10)
    connection.request("GET", "/metrics")
    said.append(read_answer(connection).body)
    connection.close()
    said += [path.read_bytes() for path in Path(demo.state).rglob("*") if path.is_file()]
    said.append(demo.state.with_suffix(".stderr").read_bytes())
    for text in told:
        assert sum(text.encode() in place or text[12:].encode() in place for place in said) == 0


def test_who_breaks_the_glass_is_seen_in_the_events_the_log_and_the_figures(demo: Demo) -> None:
    wanted = {"name": "safe", "break_glass": True, "expires_seconds": 3600}
    made = control(demo, "POST", "/operator/keys", wanted).json
    glass, before = {"x_api_key": made["api_key"]}, glass_uses(demo)
    assert control(demo, "GET", "/tenants", **glass).status == 403
    assert (
        control(
            demo, "POST", "/tenants?reason=the+provider+is+down", {"name": "dire", "plan": "demo"}, **glass
        ).status
        == 201
    )
    actor = f"break-glass:{made['id']}"
    told = control(demo, "GET", "/audit").json["items"]
    assert [it["reason"] for it in told if it["actor"] == actor] == ["createTenant: the provider is down"]
    (own,) = control(demo, "GET", "/tenants/dire/audit").json["items"]
    assert (own["actor"], own["reason"]) == (actor, "the provider is down")
    said = demo.state.with_suffix(".stderr").read_text()
    assert f"{actor}: createTenant: the provider is down" in said
    assert glass_uses(demo) == before + 2


def glass_uses(demo: Demo) -> float:
    connection = http.client.HTTPConnection(demo.operator.removeprefix("http://"), timeout=10)
    connection.request("GET", "/metrics")
    found = re.search(
        r"^gateway_break_glass_uses_total (\S+)$", read_answer(connection).body.decode(), re.MULTILINE
    )
    connection.close()
    assert found
    return float(found[1])


def test_what_the_doors_say_of_control_has_an_id_and_is_a_problem(demo: Demo) -> None:
    for by in ("", "gw_live_nothing"):
        answer = control(demo, "GET", "/nowhere", by=by)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["instance"] == answer.request_id
    assert control(demo, "HEAD", "/tenants").body == b""
    connection = http.client.HTTPConnection(demo.address, timeout=10)
    connection.request("GET", "/control/openapi.json")
    assert read_answer(connection).json["openapi"] == "3.1.0"
    connection.close()
