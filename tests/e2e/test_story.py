"""`story` on a real tritonserver: it streams, shares its time, and stops when nobody listens any more.

Its clients talk to Triton itself, by gRPC as tritonclient does, and by HTTP.
"""

import asyncio
import http.client
import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton

from gateway.scaling.alive import alive
from gateway.scaling.scaler import Replica
from gateway.scaling.scalers.process import ProcessScaler, find_wheel
from gateway.state import clock
from gateway.triton import control
from gateway.triton.client import Client
from gateway.triton.probe import is_ready
from infra.training import story
from tenants.model import Model
from tests.e2e.world import DIGITS, serving
from tests.worlds.host import eventually

pytestmark = pytest.mark.triton

STORY = Model(id="m_1", name="story", repository=str(DIGITS), tenants="*")
TOGETHER = 32  # as in model.py
SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Server:
    """A tritonserver with `story`, and the loop on which its gateway's half runs."""

    runner: asyncio.Runner
    replica: Replica
    client: Client

    def unload(self) -> None:
        self.runner.run(control.unload(self.client, self.replica, "story"))

    def load(self) -> None:
        self.runner.run(control.load(self.client, self.replica, "story", seconds=SECONDS))

    def wait_until_unloaded(self) -> None:
        async def is_gone() -> bool:
            return await control.state(self.client, self.replica, "story") == "UNAVAILABLE"

        self.runner.run(eventually(is_gone, seconds=SECONDS))

    def connected(self) -> "closing[http.client.HTTPConnection]":
        return closing(http.client.HTTPConnection("127.0.0.1", self.replica.port, timeout=SECONDS))

    def post(self, path: str, body: Any) -> str:
        """What Triton answers over HTTP, whatever its status."""
        with self.connected() as connection:
            connection.request("POST", f"/v2/models/story/{path}", json.dumps(body))
            return connection.getresponse().read().decode()


@contextmanager
def served(folder: Path) -> Iterator[Server]:
    scaler = ProcessScaler(
        find_wheel(), folder, lambda: secrets.token_hex(6), lambda: secrets.token_hex(8), secrets.choice
    )
    living = alive(folder)
    with asyncio.Runner() as runner:
        runner.run(living.__aenter__())
        replica = runner.run(scaler.start("local"))
        client = Client(replica.host, replica.port)
        try:
            runner.run(eventually(lambda: is_ready(client, replica.id), seconds=SECONDS))
            runner.run(scaler.provide(replica, STORY))
            server = Server(runner, replica, client)
            server.load()
            yield server
        finally:
            client.close()
            runner.run(scaler.stop(replica, 0))
            runner.run(living.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("story")) as started:
        yield started


@dataclass(frozen=True, slots=True)
class Piece:
    """One response of a stream; an error ends its request."""

    request: str
    text: list[bytes]
    is_final: bool
    error: str = ""


class Stream:
    """One gRPC stream, and what came on it."""

    def __init__(self, port: int) -> None:
        self._client = triton.InferenceServerClient(f"127.0.0.1:{port}")
        self._came: SimpleQueue[Piece] = SimpleQueue()
        self._client.start_stream(self._take)

    def _take(self, result: Any, error: Exception | None) -> None:
        if error is not None:
            self._came.put(Piece("", [], is_final=True, error=str(error)))
            return
        response, text = result.get_response(), result.as_numpy("text_output")
        is_final = response.parameters["triton_final_response"].bool_param
        self._came.put(Piece(response.id, [] if text is None else text.tolist(), is_final=is_final))

    def ask(self, text: bytes, max_tokens: int, *, name: str = "", **options: float) -> None:
        """Whoever names no request has one at a time."""
        inputs = [
            tensor("text_input", "BYTES", np.array([text], np.object_)),
            tensor("max_tokens", "INT32", np.array([max_tokens], np.int32)),
        ]
        kinds = {"temperature": ("FP32", np.float32), "seed": ("UINT64", np.uint64)}
        for key, value in options.items():
            inputs.append(tensor(key, kinds[key][0], np.array([value], kinds[key][1])))
        self._client.async_stream_infer("story", inputs, request_id=name, enable_empty_final_response=True)

    def next(self, seconds: float = SECONDS) -> Piece:
        """Raises Empty."""
        return self._came.get(timeout=seconds)

    def rest(self, requests: int = 1) -> list[Piece]:
        """All that comes until so many requests have ended."""
        pieces: list[Piece] = []
        while sum(piece.is_final for piece in pieces) < requests:
            pieces.append(self.next())
        return pieces

    def tell(self, text: bytes, max_tokens: int, **options: float) -> bytes:
        self.ask(text, max_tokens, name="", **options)
        return b"".join(part for piece in self.rest() for part in piece.text)

    def close(self) -> None:
        """Waits for what it has asked for."""
        self._client.stop_stream()
        self._client.close()

    def leave(self) -> None:
        """Asks for nothing any more. Triton 2.51 sometimes never unloads a model after it, so the servers of tests that unload see none."""
        self._client.stop_stream(cancel_requests=True)
        self._client.close()


def tensor(name: str, datatype: str, values: "np.ndarray[Any, Any]") -> triton.InferInput:
    made = triton.InferInput(name, values.shape, datatype)
    made.set_data_from_numpy(values)
    return made


@pytest.fixture
def connect(server: Server) -> Iterator[Callable[[], Stream]]:
    """New streams, all of which end with the test."""
    opened: list[Stream] = []

    def stream() -> Stream:
        opened.append(Stream(server.replica.grpc_port))
        return opened[-1]

    yield stream
    for one in opened:
        one.close()


@pytest.fixture
def stream(connect: Callable[[], Stream]) -> Stream:
    return connect()


def test_every_character_is_a_response_and_an_empty_one_is_the_last(stream: Stream) -> None:
    stream.ask(b"The gateway ", 40)
    *pieces, last = stream.rest()
    assert (last.text, last.is_final, last.error) == ([], True, "")
    assert len(pieces) == 40
    for piece in pieces:
        (character,) = piece.text
        assert character.decode() in story.network.VOCABULARY


@pytest.mark.parametrize(
    "text", [b"", b"A", "d\u00e9j\u00e0 vu \u6f22\U0001f642\0\n".encode(), b"long " * 100_000]
)
def test_any_text_is_continued(stream: Stream, text: bytes) -> None:
    assert len(stream.tell(text, 5)) == 5


def test_a_seed_tells_the_same_story_alone_and_in_company(
    stream: Stream, connect: Callable[[], Stream]
) -> None:
    alone = stream.tell(b"A model ", 300, temperature=0.8, seed=7)
    others = connect()
    for _ in range(6):
        others.ask(b"A request ", 400)
    others.next()
    assert stream.tell(b"A model ", 300, temperature=0.8, seed=7) == alone
    assert stream.tell(b"A model ", 300, temperature=0.8, seed=2**64 - 1) != alone


def test_without_a_seed_every_story_is_another_and_at_temperature_0_every_one_the_same(
    stream: Stream,
) -> None:
    assert stream.tell(b"A model ", 200) != stream.tell(b"A model ", 200)
    first, second = (stream.tell(b"A model ", 100, temperature=0) for _ in range(2))
    assert first == second


def test_two_stories_are_told_in_turn(stream: Stream) -> None:
    for name in ("one", "other"):
        stream.ask(b"The ", 300, name=name)
    pieces = stream.rest(2)
    ended = next(place for place, piece in enumerate(pieces) if piece.is_final)
    # The second is asked while the first is being told: how far that is, the machine decides.
    began = max(
        next(place for place, it in enumerate(pieces) if it.request == name) for name in ("one", "other")
    )
    told = Counter(piece.request for piece in pieces[began:ended])
    assert min(told.values()) > 50
    assert abs(told["one"] - told["other"]) <= 10


def leave_by_grpc(server: Server) -> Callable[[], None]:
    """As many stories as are told together, all begun, and how their client leaves them."""
    stream, heard = Stream(server.replica.grpc_port), set[str]()
    for number in range(TOGETHER):
        stream.ask(b"The ", 1024, name=str(number))
    while len(heard) < TOGETHER:
        heard.add(stream.next().request)
    return stream.leave


def leave_by_http(server: Server) -> Callable[[], None]:
    connections = ExitStack()
    for _ in range(TOGETHER):
        connection = connections.enter_context(server.connected())
        body = json.dumps({"text_input": "The ", "max_tokens": 1024})
        connection.request("POST", "/v2/models/story/generate_stream", body)
        connections.enter_context(connection.getresponse())  # its first byte has come
    return connections.close


@pytest.mark.parametrize("begin", [leave_by_grpc, leave_by_http])
def test_stories_whose_client_has_left_are_over_within_a_second(
    server: Server,
    stream: Stream,
    begin: Callable[[Server], Callable[[], None]],
    record_property: Callable[[str, object], None],
) -> None:
    leave = begin(server)
    stream.ask(b"The ", 10)  # has no place before one of those ends
    with pytest.raises(Empty):
        stream.next(seconds=0.3)
    begun = clock()
    leave()
    assert len(stream.rest()) == 11
    took = clock() - begun
    assert took < 1
    name = begin.__name__.replace("_", " ")
    record_property(f"{TOGETHER} stories, {name}, until one that waited is told", f"{took:.3f} s (bar 1 s)")


def test_an_unload_waits_for_the_story_that_is_told(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        stream = Stream(server.replica.grpc_port)
        stream.ask(b"The ", 1024)
        stream.next()
        server.unload()
        assert len(stream.rest()) == 1024
        stream.close()  # as an open one can keep the model
        server.wait_until_unloaded()


@pytest.mark.parametrize(
    ("text", "max_tokens", "others", "fault"),
    [
        (b"caf\xe9", 1, {}, "text_input: must be text in UTF-8"),
        (b"a", 0, {}, "max_tokens: must be from 1 to 1024"),
        (b"a", -1, {}, "max_tokens: must be from 1 to 1024"),
        (b"a", 1025, {}, "max_tokens: must be from 1 to 1024"),
        (b"a", 1, {"temperature": -0.1}, "temperature: must be a number, 0 or more"),
        (b"a", 1, {"temperature": float("nan")}, "temperature: must be a number, 0 or more"),
        (b"a", 1, {"temperature": float("inf")}, "temperature: must be a number, 0 or more"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name_and_the_stream_goes_on(
    stream: Stream, text: bytes, max_tokens: int, others: dict[str, float], fault: str
) -> None:
    stream.ask(text, max_tokens, name="", **others)
    (piece,) = stream.rest()
    assert fault in piece.error
    assert len(stream.tell(b"a", 3)) == 3


def test_over_http_a_story_comes_as_events(server: Server, stream: Stream) -> None:
    body = {"text_input": "A model ", "max_tokens": 20, "temperature": 0.0}
    events = server.post("generate_stream", body).split("\n\n")
    told = [json.loads(event.removeprefix("data: "))["text_output"] for event in events if event]
    assert "".join(told).encode() == stream.tell(b"A model ", 20, temperature=0)
    refused = server.post("generate_stream", body | {"max_tokens": 0})
    assert "max_tokens: must be from 1 to 1024" in refused


def test_without_a_stream_a_story_has_one_character(server: Server) -> None:
    one = json.loads(server.post("generate", {"text_input": "A model", "max_tokens": 1, "temperature": 0}))
    assert one["text_output"] == " "
    assert "exactly 1 response" in server.post("generate", {"text_input": "A model", "max_tokens": 2})


def test_the_demo_has_it(state: Path) -> None:
    with serving(state) as demo:
        described = demo.call("/v2/models/story").json
    assert [
        (it["name"], it["datatype"], it["shape"]) for it in described["inputs"] + described["outputs"]
    ] == [
        ("text_input", "BYTES", [1]),
        ("max_tokens", "INT32", [1]),
        ("temperature", "FP32", [1]),
        ("seed", "UINT64", [1]),
        ("text_output", "BYTES", [1]),
    ]
