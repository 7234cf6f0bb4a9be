"""What an outsider sends: each row is one connection's bytes and the status of the answer to it, None for a closed connection.

`KEY` stands for a credential that is good. The rows are grouped by what they try.
"""

import gzip
import json
import zlib
from typing import Any, NamedTuple

KEY = b"@KEY@"
INFER = b"/v2/models/echo_fp32/infer"
GOOD = b'{"inputs":[{"name":"in","datatype":"FP32","shape":[1],"data":[1]}]}'


class Abuse(NamedTuple):
    what: str
    sent: bytes
    status: int | None


def head(line: bytes, *headers: bytes, key: bool = True) -> bytes:
    lines = [line, b"Host: a", *([b"Authorization: Bearer " + KEY] if key else []), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def post(body: bytes, *headers: bytes, path: bytes = INFER, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return head(b"POST " + path + b" HTTP/1.1", b"Content-Length: %d" % size, *headers) + body


def chunked(chunks: bytes, *headers: bytes) -> bytes:
    return head(b"POST " + INFER + b" HTTP/1.1", b"Transfer-Encoding: chunked", *headers) + chunks


def get(path: bytes, *headers: bytes) -> bytes:
    return head(b"GET " + path + b" HTTP/1.1", *headers)


def bare(*headers: bytes, body: bytes = b"") -> bytes:
    """Without a length of ours."""
    return head(b"POST " + INFER + b" HTTP/1.1", *headers) + body


def infer(**more: Any) -> bytes:
    return post(json.dumps({**json.loads(GOOD), **more}).encode())


def tensor(**more: Any) -> bytes:
    (only,) = json.loads(GOOD)["inputs"]
    return post(json.dumps({"inputs": [{**only, **more}]}).encode())


SMUGGLED = get(b"/v2/repository/index")

SMUGGLING = [
    Abuse(
        "length and chunks", bare(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400
    ),
    Abuse(
        "chunks and length", bare(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"), 400
    ),
    Abuse("two lengths", bare(b"Content-Length: 5", b"Content-Length: 6", body=b"hello!"), 400),
    Abuse("one length twice", bare(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"), 400),
    Abuse("a list of lengths", bare(b"Content-Length: 5, 5", body=b"hello"), 400),
    Abuse("a negative length", bare(b"Content-Length: -1"), 400),
    Abuse("a length with a sign", bare(b"Content-Length: +5", body=b"hello"), 400),
    Abuse("a length in hex", bare(b"Content-Length: 0x5", body=b"hello"), 400),
    Abuse("a length that overflows", bare(b"Content-Length: 99999999999999999999"), 400),
    Abuse("a length of nothing", bare(b"Content-Length:"), 400),
    Abuse("chunks of gzip", bare(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"), 400),
    Abuse("an unknown transfer coding", bare(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), 400),
    Abuse("a space before the colon", bare(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"), 400),
    Abuse("a folded header", bare(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n"), 400),
    Abuse("a NUL in a header", get(b"/v2", b"A: b\0c"), 400),
    Abuse("a bare CR in a header", get(b"/v2", b"A: b\rContent-Length: 9"), 400),
    Abuse("bare line feeds", b"GET /v2 HTTP/1.1\nHost: a\n\n", 400),
    Abuse("a header without a name", get(b"/v2", b": b"), 400),
    Abuse("a header without a colon", get(b"/v2", b"Content-Length 5"), 400),
    Abuse("a chunk without its size", chunked(b"x\r\nhello\r\n0\r\n\r\n"), 400),
    Abuse("a chunk of a negative size", chunked(b"-5\r\nhello\r\n0\r\n\r\n"), 400),
    Abuse("a chunk that overflows", chunked(b"ffffffffffffffffff\r\n"), 400),
    Abuse("a chunk that is longer than it says", chunked(b"2\r\nhello\r\n0\r\n\r\n"), 400),
    Abuse("a chunk extension without an end", chunked(b"5;" + b"x" * 400_000), 431),
    Abuse("trailers without an end", chunked(b"0\r\n" + b"A: b\r\n" * 20_000), 431),
    Abuse("a request behind a short body", post(b"x" + SMUGGLED, length=1), 400),
    Abuse("an upgrade to h2c", get(b"/v2", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c"), 400),
    Abuse("a websocket", get(b"/v2", b"Connection: upgrade", b"Upgrade: websocket"), 400),
    Abuse("HTTP/2 by prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    Abuse("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    Abuse("a tunnel", head(b"CONNECT 127.0.0.1:80 HTTP/1.1"), 400),
    Abuse("HTTP/0.9", b"GET /v2\r\n\r\n", 401),
    Abuse("HTTP/3.7", b"GET /v2 HTTP/3.7\r\nHost: a\r\n\r\n", 400),
]
OVERSIZE = [
    Abuse("a head of 40 kB", get(b"/v2", b"A: " + b"x" * 40_000), 431),
    Abuse("a path of 40 kB", get(b"/" + b"x" * 40_000), 431),
    Abuse("four thousand headers", get(b"/v2", *[b"A%d: b" % n for n in range(4_000)]), 431),
    Abuse("a head that never ends", b"GET /v2 HTTP/1.1\r\n" + b"A: " + b"x" * 1_000_000, 431),
    Abuse("2 GiB", bare(b"Content-Length: 2147483648"), 413),
    Abuse("17 MiB of JSON", bare(b"Content-Length: 17825792"), 413),
    Abuse(
        "a JSON head of 17 MiB",
        bare(b"Content-Length: 99999999", b"Inference-Header-Content-Length: 17825792"),
        413,
    ),
    Abuse("a gzip bomb", post(gzip.compress(bytes(2**27)), b"Content-Encoding: gzip"), 413),
    Abuse("a deflate bomb", post(zlib.compress(bytes(2**27)), b"Content-Encoding: deflate"), 413),
]
TRUNCATED = [
    Abuse("half a request line", b"GET /v2", 408),
    Abuse("half a head", b"GET /v2 HTTP/1.1\r\nHost: a\r\nA", 408),
    Abuse("half a body", post(GOOD, length=1_000), 408),
    Abuse("nothing at all", b"", None),
    Abuse("empty lines", b"\r\n" * 10, None),
    Abuse("half a gzip", post(gzip.compress(GOOD)[:-4], b"Content-Encoding: gzip"), 400),
    Abuse("a head length beyond the body", post(GOOD, b"Inference-Header-Content-Length: 999"), 400),
    Abuse("tensors that are missing", tensor(parameters={"binary_data_size": 4}, data=[]), 400),
]
JSON = [
    Abuse("no JSON", post(b"hello"), 400),
    Abuse("nothing", post(b""), 400),
    Abuse("null", post(b"null"), 400),
    Abuse("a list", post(b"[]"), 400),
    Abuse("half of it", post(GOOD[:-1]), 400),
    Abuse("something behind it", post(GOOD + b"{}"), 400),
    Abuse("a BOM", post(b"\xef\xbb\xbf" + GOOD), 400),
    Abuse("a NUL behind it", post(GOOD + b"\0"), 400),
    Abuse("UTF-16", post(GOOD.decode().encode("utf-16")), 400),
    Abuse("no UTF-8", post(GOOD.replace(b'"in"', b'"\xff"')), 400),
    Abuse("a lone surrogate", post(GOOD.replace(b'"in"', b'"\\ud800"')), 400),
    Abuse("NaN", post(GOOD.replace(b"[1]}", b"[NaN]}")), 400),
    Abuse("a number of 5,000 digits", post(GOOD.replace(b"[1]}", b"[" + b"9" * 5_000 + b"]}")), 400),
    Abuse("1e999", post(GOOD.replace(b"[1]}", b"[1e999]}")), 400),
    Abuse("data 101 deep", post(GOOD.replace(b"[1]}", b"[" * 101 + b"]" * 101 + b"}")), 400),
    Abuse("data a million deep", post(GOOD.replace(b"[1]}", b"[" * 10**6 + b"]" * 10**6 + b"}")), 400),
    Abuse("a million open brackets", post(b"[" * 10**6), 400),
    Abuse("parameters that nest", infer(parameters={"a": {"b": 1}}), 400),
    Abuse("a shape that overflows", tensor(shape=[2**31, 2**31, 2**31]), 400),
    Abuse("a negative shape", tensor(shape=[-1]), 400),
    Abuse("a shape of a thousand sides", tensor(shape=[1] * 1_000), 400),
    Abuse("a shape that its data has not", tensor(shape=[1_000_000]), 400),
    Abuse("a datatype that there is not", tensor(datatype="FP99"), 400),
    Abuse("an input that there is not", tensor(name="other"), 400),
    Abuse("an output twice", infer(outputs=[{"name": "out"}, {"name": "out"}]), 400),
    Abuse("an output twice, one with a NUL", infer(outputs=[{"name": "out"}, {"name": "out\0"}]), 400),
    Abuse("a binary size that is negative", tensor(parameters={"binary_data_size": -1}), 400),
    Abuse("a binary size that overflows", tensor(parameters={"binary_data_size": 2**62}), 400),
    Abuse("a binary size that is text", tensor(parameters={"binary_data_size": "4"}), 400),
    Abuse("shared memory for an input", tensor(parameters={"shared_memory_region": "x"}), 400),
    Abuse(
        "shared memory by an escape",
        post(GOOD[:-1] + rb',"parameters":{"\u0073hared_memory_region":"x"}}'),
        400,
    ),
    Abuse(
        "shared memory for an output",
        infer(outputs=[{"name": "out", "parameters": {"shared_memory_region": "x"}}]),
        400,
    ),
    Abuse("a name that ends before it ends", infer(parameters={"priority\0x": 1}), 400),
    Abuse("a sequence that is no number", infer(parameters={"sequence_id": 1.5}), 400),
    Abuse("generate with null", post(b'{"in":null}', path=b"/v2/models/echo_fp32/generate"), 400),
    Abuse("generate with an object", post(b'{"in":{"a":1}}', path=b"/v2/models/echo_fp32/generate"), 400),
    Abuse(
        "generate in a sequence",
        post(b'{"in":[1],"sequence_id":1}', path=b"/v2/models/echo_fp32/generate"),
        400,
    ),
]
HEADERS = [
    Abuse(
        "two head lengths",
        post(GOOD, b"Inference-Header-Content-Length: 1", b"Inference-Header-Content-Length: 67"),
        400,
    ),
    Abuse("a head length with a sign", post(GOOD, b"Inference-Header-Content-Length: +67"), 400),
    Abuse("a head length of ten digits", post(GOOD, b"Inference-Header-Content-Length: 0000000067"), 400),
    Abuse("brotli", post(GOOD, b"Content-Encoding: br"), 415),
    Abuse("gzip in gzip", post(GOOD, b"Content-Encoding: gzip, gzip"), 415),
    Abuse("gzip that is called deflate", post(gzip.compress(GOOD), b"Content-Encoding: deflate"), 400),
    Abuse("deflate that is called gzip", post(zlib.compress(GOOD), b"Content-Encoding: gzip"), 400),
    Abuse("plain text that is called gzip", post(GOOD, b"Content-Encoding: gzip"), 400),
    Abuse("two gzips", post(gzip.compress(GOOD) * 2, b"Content-Encoding: gzip"), 400),
    Abuse("no credential", head(b"GET /v2 HTTP/1.1", key=False), 401),
    Abuse("another scheme", head(b"GET /v2 HTTP/1.1", b"Authorization: Basic YTpi", key=False), 401),
    Abuse("two credentials", get(b"/v2", b"x-api-key: gw_live_other"), 400),
    Abuse("two authorizations", get(b"/v2", b"Authorization: Bearer gw_live_other"), 400),
    Abuse("the key in the query", head(b"GET /v2?api_key=" + KEY + b" HTTP/1.1", key=False), 401),
    Abuse(
        "a tenant's name",
        head(b"GET /v2 HTTP/1.1", b"X-Tenant: roomy", b"X-Forwarded-User: root", key=False),
        401,
    ),
    Abuse("the backend's secret", get(b"/v2/repository/index", b"X-Gateway-Control: x"), 404),
]
PATHS = [
    *(
        Abuse(path.decode(), get(path), 404)
        for path in (
            b"/v2/models/echo%5ffp32",
            b"/v2/models/echo_fp32%00",
            b"/v2/models/../models/echo_fp32",
            b"/v2/models/%2e%2e/models/echo_fp32",
            b"/v2/models/.hidden",
            b"/v2/models//echo_fp32",
            b"//v2/models/echo_fp32",
            b"/v2/models/echo_fp32/",
            b"/v2/models/echo_fp32;a=b",
            b"/v2/models/echo_fp32\\..\\x",
            b"/v2/models/echo_fp32/versions/-1",
            b"/v2/models/echo_fp32/versions/99999999999",
            b"/v2/models/stats",
            b"/v2/models/" + b"x" * 129,
            b"/v2/repository/index",
            b"/v2/%72epository/index",
            b"/v2/systemsharedmemory/status",
            b"/v2/cudasharedmemory/status",
            b"/v2/trace/setting",
            b"/v2/models/echo_fp32/trace/setting",
            b"/v2/models/echo_fp32/config",
            b"/v2/logging",
            b"/metrics",
            b"/ping",
            b"/invocations",
            b"/v1/endpoints/1/deployedModels/1:predict",
        )
    ),
    *(
        Abuse("POST " + path.decode(), post(b"{}", path=path), 404)
        for path in (
            b"/v2/repository/models/echo_fp32/unload",
            b"/v2/repository/models/echo_fp32/load",
            b"/v2/systemsharedmemory/region/x/register",
            b"/v2/logging",
        )
    ),
    Abuse("a whole URL of another host", get(b"http://elsewhere.example/v2/repository/index"), 404),
    Abuse("a whole URL without a path", get(b"http://elsewhere.example"), 400),
    Abuse("a URL of no host", get(b"http:///v2"), 400),
    Abuse("a URL of a port that there is not", get(b"http://elsewhere.example:99999/v2"), 400),
    Abuse("a method that there is not", head(b"BREW /v2/models/echo_fp32 HTTP/1.1"), 400),
    Abuse("a method that is not this path's", head(b"DELETE /v2/models/echo_fp32 HTTP/1.1"), 405),
    Abuse("TRACE", head(b"TRACE /v2 HTTP/1.1"), 405),
]
ROWS = [*SMUGGLING, *OVERSIZE, *TRUNCATED, *JSON, *HEADERS, *PATHS]
