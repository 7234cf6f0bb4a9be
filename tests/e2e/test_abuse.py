"""Whatever an outsider sends is refused, each for its own reason; the gateway and its Triton live on and grow by nothing."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.abuse import GOOD, KEY, ROWS, SMUGGLED, Abuse, post
from tests.e2e.world import MODELS, Demo, entries, new_tenant, processes, serving, until

pytestmark = pytest.mark.triton

MOST_GROWTH_BYTES = 64 * 2**20
HEAD_SECONDS = "1"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """Of one server for all rows, with a shorter patience for heads than the default."""
    state = tmp_path_factory.mktemp("abuse") / "state"
    with serving(state, MODELS, GATEWAY_HTTP_HEAD_SECONDS=HEAD_SECONDS) as started:
        yield started


@pytest.fixture(scope="module")
def key(demo: Demo) -> str:
    return new_tenant(demo.state, "outsider").secret.reveal()


@pytest.fixture(scope="module")
def before(demo: Demo, key: str) -> dict[int, int]:
    """What every process held before the first row."""
    expect_alive(demo, key)
    return memory(demo)


def memory(demo: Demo) -> dict[int, int]:
    """Resident bytes of the gateway, Triton and its models."""
    found = {}
    for pid in processes(demo.state):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        found[pid] = pages * 4096
    return found


def expect_alive(demo: Demo, key: str) -> None:
    answer = demo.call("/v2/models/echo_fp32/infer", GOOD, key=key)
    assert (answer.status, answer.json["outputs"][0]["data"]) == (200, [1.0])


def answers(demo: Demo, sent: bytes) -> bytes:
    """All that comes until the gateway closes, or has answered and waits for more."""
    with socket.create_connection((demo.host, demo.port), 20) as connection:
        with contextlib.suppress(ConnectionError):  # it has heard enough; its answer is still to be read
            connection.sendall(sent)
        said = b""
        while b"\r\n\r\n" not in said:
            try:
                piece = connection.recv(65536)
            except ConnectionResetError:
                break
            if not piece:
                break
            said += piece
        return said


def status_of(said: bytes) -> int | None:
    return int(said.split(b" ", 2)[1]) if said else None


@pytest.mark.usefixtures("before")
@pytest.mark.parametrize("row", ROWS, ids=[row.what for row in ROWS])
def test_what_an_outsider_sends_is_refused_and_hurts_nobody(demo: Demo, key: str, row: Abuse) -> None:
    said = answers(demo, row.sent.replace(KEY, key.encode()))
    assert status_of(said) == row.status, said
    expect_alive(demo, key)


def test_there_are_enough_rows_and_none_twice() -> None:
    assert len(ROWS) >= 80
    assert len({row.sent for row in ROWS}) == len(ROWS)


def test_a_request_within_a_body_is_never_one_of_its_own(demo: Demo, key: str) -> None:
    """Its bytes are the tensor's, whatever they look like."""
    size = len(SMUGGLED) // 4 * 4
    head = (
        b'{"inputs":[{"name":"in","datatype":"FP32","shape":[%d],"parameters":{"binary_data_size":%d}}]}'
        % (size // 4, size)
    )
    body = head + SMUGGLED[:size]
    sent = post(body, b"Inference-Header-Content-Length: %d" % len(head), b"Connection: close")
    with socket.create_connection((demo.host, demo.port), 20) as connection:
        connection.sendall(sent.replace(KEY, key.encode()))
        said = b"".join(iter(lambda: connection.recv(65536), b""))
    assert said.count(b"HTTP/1.1 ") == 1
    assert status_of(said) == 200


def test_no_header_changes_where_a_call_came_from(demo: Demo, key: str) -> None:
    spoofed = (
        b"X-Forwarded-For: 198.51.100.7",
        b"Forwarded: for=198.51.100.7",
        b"X-Real-IP: 198.51.100.7",
        b"Via: 1.1 other",
    )
    said = answers(demo, post(GOOD, *spoofed).replace(KEY, key.encode()))
    assert status_of(said) == 200
    request = said.lower().partition(b"x-request-id: ")[2][:32].decode()
    until(lambda: any(e.request == request and e.kind == "intent" for e in entries(demo.state)), 5)
    assert b"198.51.100.7" not in b"".join(p.read_bytes() for p in (demo.state / "audit").glob("*.segment"))


def test_all_of_it_together_kills_no_process_and_leaves_hardly_any_memory_behind(
    demo: Demo, before: dict[int, int], record_property: Callable[[str, object], None]
) -> None:
    after = memory(demo)
    growth = sum(after.values()) - sum(before.values())
    record_property(f"memory left behind by {len(ROWS)} abuses", f"{growth / 2**20:.1f} MiB (bar 64)")
    assert after.keys() == before.keys()
    assert growth < MOST_GROWTH_BYTES
