"""What Triton would read is what was judged: hostile heads are sent through the door to an upstream that records what it gets.

Triton and we read differently: of two equal keys it takes the first and we the last, it passes over a BOM, and ends at a NUL. So whatever
gets through must read the same in every way, and hold nothing that is not offered; else it is refused, and nothing is sent.
"""

import gzip
import itertools
import json
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.gateway.frontends.test_oip_rest import opened, request
from tests.worlds.triton import TritonWorld

INFER, GENERATE = "/v2/models/digits/infer", "/v2/models/digits/generate_stream"
RESERVED = ("shared_memory_region", "shared_memory_byte_size", "priority", "timeout", "headers", "triton_x")
TENSOR = '{"name":"in","shape":[1],"datatype":"FP32","data":[1]%s}'
Hostile = tuple[str, str, bytes]


def escaped(name: str) -> str:
    return "".join(f"\\u{ord(letter):04x}" for letter in name)


def spellings(name: str) -> Iterator[tuple[str, str]]:
    """A parameter of this name, written so that two readers may see two things."""
    yield "plain", f'"{name}":1'
    yield "escaped", f'"{escaped(name)}":1'
    yield "twice", f'"{name}":1,"{name}":2'
    yield "once escaped", f'"{name}":1,"{escaped(name)}":2'
    yield "behind a NUL", f'"mine\\u0000{name}":1'
    yield "before a NUL", f'"{name}\\u0000":1'


def parameters(inner: str) -> Iterator[tuple[str, str]]:
    """An infer request with these parameters at each level, alone and beside harmless ones of the same key."""
    for level, head in (
        ("request", '{"inputs":[' + TENSOR % "" + "],%s}"),
        ("input", '{"inputs":[' + TENSOR % ",%s" + "]}"),
        ("output", '{"inputs":[' + TENSOR % "" + '],"outputs":[{"name":"out",%s}]}'),
    ):
        ours, none = f'"parameters":{{{inner}}}', '"parameters":{}'
        yield f"{level}", head % ours
        yield f"{level}, hidden behind another", head % f"{none},{ours}"
        yield f"{level}, before another", head % f"{ours},{none}"


def hostile() -> Iterator[Hostile]:
    for name in RESERVED:
        for how, inner in spellings(name):
            for where, head in parameters(inner):
                yield f"{name} {how} in {where}", INFER, head.encode()
            yield f"{name} {how} generated", GENERATE, f'{{"in":"x",{inner}}}'.encode()
            yield f"{name} {how} generated below", GENERATE, f'{{"in":"x","parameters":{{{inner}}}}}'.encode()
    good = ('{"inputs":[' + TENSOR % "" + "]}").encode()
    other = good.replace(b'"in"', b'"other"')
    for what, body in {
        "a BOM": b"\xef\xbb\xbf" + good,
        "a NUL and another": good + b"\0" + other,
        "another behind it": good + other,
        "inputs twice": good[:-1] + b"," + other[1:],
        "a name twice": good.replace(b'"name":"in"', b'"name":"a","name":"b"'),
        "a shape twice": good.replace(b'"shape":[1]', b'"shape":[9],"shape":[1]'),
        "a model's name": good[:-1] + b',"model_name":"private","model_version":"9"}',
        "comments": good.replace(b"{", b"{/* */", 1),
        "single quotes": good.replace(b'"', b"'"),
        "a trailing comma": good[:-1] + b",}",
        "Infinity": good.replace(b"[1]}", b"[Infinity]}"),
        "an overlong number": good.replace(b"[1]}", b"[" + b"1" * 400 + b"]}"),
        "overlong UTF-8": good.replace(b'"in"', b'"\xc0\xaf"'),
        "a surrogate in UTF-8": good.replace(b'"in"', b'"\xed\xa0\x80"'),
        "a line break in a name": good.replace(b'"in"', b'"i\nn"'),
        "an object in the data": good.replace(b"[1]}", b'[{"a":1,"a":2}]}'),
    }.items():
        yield what, INFER, body
        yield f"{what}, generated", GENERATE, body


HOSTILE = list(hostile())


def as_read(body: bytes, *, first_wins: bool) -> Any:
    """What a reader makes of it that keeps the first or the last of equal keys."""

    def kept(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return dict(reversed(pairs) if first_wins else pairs)

    return json.loads(body, object_pairs_hook=kept)


def reserved_in(document: Any) -> list[str]:
    """Names of the table that Triton would see as a parameter, read as C does: to the first NUL."""
    holders = [document, document.get("parameters", {})]
    tensors = itertools.chain(document.get("inputs", ()), document.get("outputs", ()))
    holders += [tensor.get("parameters", {}) for tensor in tensors]
    names = [name.partition("\0")[0] for holder in holders if isinstance(holder, dict) for name in holder]
    return [name for name in names if name in RESERVED or name.startswith(("shared_memory_", "triton_"))]


async def test_what_triton_would_read_is_what_was_judged_or_nothing_is_sent() -> None:
    passed = 0
    async with opened(triton := TritonWorld()) as (here, world):
        for what, path, body in HOSTILE:
            triton.asked.clear()
            answer = await world.connect()
            await answer.send(request(here, "POST", path, body, "Connection: close"))
            said = await answer.rest()
            status = int(said.split(b" ")[1])
            if status == 400:
                assert triton.asked == [], what
                continue
            assert status == 200, (what, said)
            (sent,) = triton.asked
            assert sent.isascii() or sent.decode(), what
            assert b"\0" not in sent, what
            assert as_read(sent, first_wins=True) == as_read(sent, first_wins=False), what
            assert reserved_in(as_read(sent, first_wins=True)) == [], what
            assert (
                not {"model_name", "model_version"} & as_read(sent, first_wins=True).keys()
                or path == GENERATE
            )
            passed += 1
    assert 0 < passed < len(HOSTILE)


@pytest.mark.parametrize(
    ("coding", "pack"), [("gzip", zlib.compress), ("deflate", gzip.compress), ("gzip", bytes)]
)
async def test_what_bears_anothers_label_is_not_sent(coding: str, pack: Any) -> None:
    body = pack(('{"inputs":[' + TENSOR % "" + "]}").encode())
    async with opened(triton := TritonWorld()) as (here, world):
        answer = await world.ask(request(here, "POST", INFER, body, f"Content-Encoding: {coding}"))
        assert (answer.status, triton.asked) == (400, [])
