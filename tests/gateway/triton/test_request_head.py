"""What Triton is asked: nothing of the client's head reaches it unjudged."""

import pytest

from gateway.call import InferenceCall, Outgoing
from gateway.triton.client import request_head
from gateway.triton.grpc_client import opening
from gateway.triton.http2 import headers
from tests.gateway.triton.worlds import call


@pytest.mark.parametrize(
    ("request_", "body", "sent"),
    [
        (call("metadata"), Outgoing(), b"GET /v2/models/digits HTTP/1.1\r\nHost: triton\r\n\r\n"),
        (
            call("metadata", version="3"),
            Outgoing(),
            b"GET /v2/models/digits/versions/3 HTTP/1.1\r\nHost: triton\r\n\r\n",
        ),
        (
            call("generate_stream", version="2"),
            Outgoing(head=b"{}"),
            b"POST /v2/models/digits/versions/2/generate_stream HTTP/1.1\r\nHost: triton\r\n"
            b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n",
        ),
        (
            call(encoding="gzip"),
            Outgoing(head=b"{}"),
            b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: triton\r\nContent-Type: application/json\r\n"
            b"Accept-Encoding: gzip\r\nContent-Length: 2\r\n\r\n",
        ),
        (
            call(),
            Outgoing(head=b"{}"),
            b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: triton\r\nContent-Type: application/json\r\n"
            b"Content-Length: 2\r\n\r\n",
        ),
        (
            call(version="3"),
            Outgoing(head=b"{}", first=b"ab", tensor_bytes=7, binary=True),
            b"POST /v2/models/digits/versions/3/infer HTTP/1.1\r\nHost: triton\r\nContent-Type: application/octet-stream\r\n"
            b"Inference-Header-Content-Length: 2\r\nContent-Length: 9\r\n\r\n",
        ),
        (
            call(),
            Outgoing(tensor_bytes=4, binary=True),
            b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: triton\r\nContent-Type: application/octet-stream\r\n"
            b"Inference-Header-Content-Length: 0\r\nContent-Length: 4\r\n\r\n",
        ),
    ],
)
def test_the_head_that_triton_gets_is_ours_alone(
    request_: InferenceCall, body: Outgoing, sent: bytes
) -> None:
    assert request_head(request_, body) == sent


def test_a_server_that_speaks_openais_api_is_asked_by_its_own_name() -> None:
    sent = request_head(call("chat/completions"), Outgoing(head=b"{}"), "a.example:80")
    assert sent == (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a.example:80\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2\r\n\r\n"
    )


@pytest.mark.parametrize("seconds", [-3.0, 0.0, 0.2, 1.0, 59.001, 300.0, 1e12])
def test_triton_s_deadline_over_grpc_comes_after_our_own_and_soon(seconds: float) -> None:
    told = headers(opening(call("infer"), seconds))["grpc-timeout"]
    assert told.endswith("S")
    assert len(told) <= len("99999999S")
    left = min(max(seconds, 0.0), 99_999_998.0)
    assert left + 1 <= int(told[:-1]) < left + 2
