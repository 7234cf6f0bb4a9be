"""What model control asks of a server, and what its answers are worth."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
import pytest

from gateway.scaling.scaler import Replica
from gateway.triton.client import Client, UpstreamFailed
from gateway.triton.control import Deployment, LoadFailed, ModelConfig, config, load, state, unload, versions
from tests.gateway.triton.worlds import Reader, Script, Writer, answers, parts, read_request, served

T = TypeVar("T")
REPLICA = Replica("mine", "127.0.0.1", 1, (("x-control", "secret"),))


def replies(body: bytes, status: bytes = b"200 OK") -> Script:
    return answers(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))


async def asked(script: Script, question: Callable[[Client], Awaitable[T]]) -> T:
    async with served(script) as server:
        client = Client("127.0.0.1", server.port)
        try:
            return await question(client)
        finally:
            client.close()


QUESTIONS: dict[str, tuple[Callable[[Client], Awaitable[object]], bytes]] = {
    "load": (
        lambda client: load(client, REPLICA, "digits", seconds=5),
        b"POST /v2/repository/models/digits/load HTTP/1.1\r\nHost: triton\r\nx-control: secret\r\nContent-Length: 0\r\n\r\n",
    ),
    "unload": (
        lambda client: unload(client, REPLICA, "digits"),
        b"POST /v2/repository/models/digits/unload HTTP/1.1\r\nHost: triton\r\nx-control: secret\r\nContent-Length: 0\r\n\r\n",
    ),
    "state": (
        lambda client: state(client, REPLICA, "digits"),
        b"POST /v2/repository/index HTTP/1.1\r\nHost: triton\r\nx-control: secret\r\nContent-Length: 0\r\n\r\n",
    ),
    "config": (
        lambda client: config(client, REPLICA, "digits"),
        b"GET /v2/models/digits/config HTTP/1.1\r\nHost: triton\r\nx-control: secret\r\nContent-Length: 0\r\n\r\n",
    ),
    "versions": (
        lambda client: versions(client, "digits"),
        b"GET /v2/models/digits HTTP/1.1\r\nHost: triton\r\nContent-Length: 0\r\n\r\n",
    ),
}


@pytest.mark.parametrize(("question", "sent"), QUESTIONS.values(), ids=QUESTIONS)
async def test_each_question_goes_where_it_belongs_with_the_secret_where_it_is_needed(
    question: Callable[[Client], Awaitable[object]], sent: bytes
) -> None:
    arrived = []

    async def script(reader: Reader, writer: Writer) -> None:
        arrived.append(await read_request(reader))
        raise ConnectionError

    with pytest.raises(UpstreamFailed):
        await asked(script, question)
    assert arrived == [sent]


@pytest.mark.parametrize("question", [question for question, _ in QUESTIONS.values()], ids=QUESTIONS)
async def test_a_refusal_is_no_answer(question: Callable[[Client], Awaitable[object]]) -> None:
    with pytest.raises((UpstreamFailed, LoadFailed), match="is restricted"):
        await asked(replies(b'{"error":"This API is restricted"}', b"403 Forbidden"), question)


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b'{"versions":["one"]}', b"\xff", b""])
@pytest.mark.parametrize("name", ["state", "config", "versions"])
async def test_what_is_no_answer_of_tritons_is_a_failure_of_the_server(name: str, body: bytes) -> None:
    with pytest.raises(UpstreamFailed):
        await asked(replies(body), QUESTIONS[name][0])


async def test_a_load_that_failed_says_why_in_tritons_words() -> None:
    text = b'{"error":"load failed for model \'bad\': SyntaxError;\\n"}'
    with pytest.raises(LoadFailed) as failed:
        await asked(replies(text, b"400 Bad"), QUESTIONS["load"][0])
    assert str(failed.value) == "load failed for model 'bad': SyntaxError;"


async def test_a_load_takes_no_longer_than_it_may() -> None:
    async with asyncio.timeout(5):
        with pytest.raises(TimeoutError):
            await asked(parts(b""), lambda client: load(client, REPLICA, "digits", seconds=0.05))


@pytest.mark.parametrize(
    ("index", "found"),
    [
        (b'[{"name":"digits"}]', ""),
        (b"[]", ""),
        (b'[{"name":"other","state":"READY"}]', ""),
        (b'[{"name":"digits","version":"1","state":"UNAVAILABLE","reason":"unloaded"}]', "UNAVAILABLE"),
        (b'[{"name":"digits","version":"1","state":"UNLOADING"}]', "UNLOADING"),
        (b'[{"name":"digits","state":"UNAVAILABLE"},{"name":"digits","state":"READY"}]', "READY"),
        (b'[{"name":"digits","state":"UNAVAILABLE"},{"name":"digits","state":"UNLOADING"}]', "UNLOADING"),
        (b'[{"name":"digits","state":"UNLOADING"},{"name":"digits","state":"LOADING"}]', "LOADING"),
    ],
)
async def test_a_model_is_ready_when_a_version_is_and_gone_only_when_all_are(
    index: bytes, found: str
) -> None:
    assert await asked(replies(index), QUESTIONS["state"][0]) == found


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (replies(b'{"name":"digits","versions":["1","10","9"]}'), ("1", "9", "10")),
        (replies(b'{"name":"digits"}'), ()),
        (replies(b'{"error":"Request for unknown model"}', b"404 Not Found"), ()),
    ],
)
async def test_the_versions_of_what_is_served_are_found_with_the_newest_last(
    reply: Script, found: tuple[str, ...]
) -> None:
    assert await asked(reply, QUESTIONS["versions"][0]) == found


async def test_a_configuration_says_how_the_model_can_be_called() -> None:
    body = b"""{"name":"digits","platform":"","max_batch_size":64,"sequence_batching":{"state":[]},
        "model_transaction_policy":{"decoupled":true},"input":[
        {"name":"image","data_type":"TYPE_FP32","format":"FORMAT_NONE","dims":[1,-1],"optional":true,"is_shape_tensor":false},
        {"name":"text","data_type":"TYPE_STRING","dims":[]}]}"""
    found, _ = await asked(replies(body), lambda client: config(client, REPLICA, "digits"))
    assert (found.max_batch_size, found.has_sequences, found.is_decoupled) == (64, True, True)
    assert [(entry.name, entry.datatype, entry.dims, entry.optional) for entry in found.inputs] == [
        ("image", "FP32", (1, -1), True),
        ("text", "BYTES", (), False),
    ]
    plain = ModelConfig(name="digits")
    assert (plain.has_sequences, plain.is_decoupled) == (False, False)


@pytest.mark.parametrize(
    ("told", "instances", "batch"),
    [
        ({"instance_group": [{"count": 2}, {"count": 3}], "max_batch_size": 8}, 5, 1),
        (
            {"instance_group": [{"count": 2, "gpus": [0, 1]}], "max_batch_size": 8, "dynamic_batching": {}},
            4,
            8,
        ),
        ({"instance_group": [{"count": 1}], "max_batch_size": 0, "dynamic_batching": {}}, 1, 1),
        ({"instance_group": [{"count": 1}], "max_batch_size": 4, "sequence_batching": {"direct": {}}}, 1, 4),
        ({"instance_group": [{"count": 4}], "model_transaction_policy": {"decoupled": True}}, 0, 1),
        ({"platform": "ensemble"}, 0, 1),
    ],
)
def test_how_many_calls_run_at_once_is_read_from_the_configuration_where_it_says_so(
    told: dict[str, object], instances: int, batch: int
) -> None:
    found = msgspec.convert(told, Deployment)
    assert (found.instances, found.batch) == (instances, batch)
