"""A small server that speaks OpenAI's API, as Triton's own front end does: Starlette behind uvicorn, on a real socket of loopback.

It is a fake and runs no model: it says the words of the last message again. Paths, readiness, FastAPI's errors and the form of answers are
those of Triton's front end; Triton itself is not in it. What a gateway must never send it is noted in `misuses`.
"""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

# What becomes of a call: an answer; an error before it, of one kind or another; a stream that does not end as it should.
Mood = Literal[
    "answers",
    "counts nothing",
    "refuses",
    "rejects",
    "locks out",
    "crashes",
    "says nonsense",
    "breaks off",
    "forgets",
    "fails within",
    "holds",
]
MODEL = "llama-3"
TOLD = "no such thing in /srv/models/llama-3 at 10.1.2.3:8001"
_HEADERS = {"host", "content-type", "content-length", "traceparent"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass(slots=True)
class OpenAiWorld:
    """Serves while it is entered; `down` and `up` are its process's end and a new one on the same port."""

    mood: Mood = "answers"
    is_ready: bool = True
    tells_ready: bool = True  # else it has no such path
    port: int = 0
    certificate: tuple[Path, Path] | None = None  # with its key: then it speaks TLS
    asked: list[Asked] = field(default_factory=list)
    misuses: list[str] = field(default_factory=list)
    looks: int = 0  # how often it was asked whether it is ready
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    departed: asyncio.Event = field(default_factory=asyncio.Event)
    _server: uvicorn.Server | None = None

    @property
    def address(self) -> str:
        return f"{'https://' if self.certificate else ''}{self._authority}"

    @property
    def _authority(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.down()

    async def up(self) -> None:
        certificate, key = self.certificate or (None, None)
        config = uvicorn.Config(
            self._app(),
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            ssl_certfile=certificate,
            ssl_keyfile=key,
        )
        config.load()
        server = self._server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        await server.startup(sockets=[listener])

    async def down(self) -> None:
        """As a process that is killed: what is under way is cut."""
        server, self._server = self._server, None
        if server is None:
            return
        for listening in server.servers:
            listening.close()
        tasks = list(server.server_state.tasks)
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/health/ready", self._ready),
                Route("/v1/models", self._models),
                *(
                    Route(f"/v1/{path}", self._answer, methods=["POST"])
                    for path in ("chat/completions", "completions", "embeddings")
                ),
                Route("/{path:path}", self._stray, methods=["GET", "POST"]),
            ]
        )

    async def _stray(self, request: Request) -> Response:
        self.misuses.append(f"{request.method} {request.url.path}")
        return JSONResponse({"detail": "Not Found"}, 404)

    async def _ready(self, _: Request) -> Response:
        self.looks += 1
        return Response(status_code=404 if not self.tells_ready else 200 if self.is_ready else 503)

    async def _models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    async def _answer(self, request: Request) -> Response:
        asked = Asked(request.url.path, request.headers, await request.body())
        if request.headers["host"] != self._authority:
            self.misuses.append(f"called {request.headers['host']}")
        self.misuses += sorted(f"the header {name}" for name in set(request.headers) - _HEADERS)
        self.asked.append(asked)
        self.arrived.set()
        if asked.json.get("model") != MODEL:
            return JSONResponse({"detail": f"Unknown model: {asked.json.get('model')}"}, 404)
        match self.mood:
            case "refuses":
                return JSONResponse({"detail": TOLD}, 400)
            case "rejects":
                told = {"message": TOLD, "type": "invalid_request_error", "param": "tools", "code": "x"}
                return JSONResponse({"error": told}, 422)
            case "locks out":
                return JSONResponse({"detail": "Missing key for 10.1.2.3:8001"}, 401)
            case "crashes":
                return PlainTextResponse("Internal Server Error", 500)
            case "says nonsense":
                return JSONResponse(["what", "is", "this"])
        if asked.path == "/v1/embeddings":
            return JSONResponse(_embeddings(asked.json))
        answer = _Saying(asked, counts=self.mood != "counts nothing")
        if asked.json.get("stream"):
            return StreamingResponse(self._stream(answer), media_type="text/event-stream")
        return JSONResponse(answer.whole())

    async def _stream(self, answer: "_Saying") -> AsyncIterator[bytes]:
        try:
            *events, last = answer.events()
            yield _event(events[0])
            if self.mood == "holds":
                await asyncio.Event().wait()
            if self.mood == "breaks off":
                raise ConnectionAbortedError
            if self.mood == "fails within":
                yield _event({"error": {"message": TOLD, "type": "server_error"}})
            for event in (*events[1:], last):
                yield _event(event)
            if self.mood != "forgets":
                yield b"data: [DONE]\n\n"
        finally:
            self.departed.set()


def _event(told: object) -> bytes:
    return b"data: %b\n\n" % json.dumps(told).encode()


def _embeddings(asked: dict[str, Any]) -> dict[str, Any]:
    texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
    data = [{"object": "embedding", "index": at, "embedding": [len(it), 0.5]} for at, it in enumerate(texts)]
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return {"object": "list", "data": data, "model": MODEL, "usage": usage}


class _Saying:
    """What is answered to one request of texts: `n` times the same, or a call of the first tool."""

    def __init__(self, asked: Asked, *, counts: bool) -> None:
        body = asked.json
        self._is_chat = asked.path.endswith("chat/completions")
        self._n = body.get("n", 1)
        self._tools = body.get("tools", [])
        self._wants_usage = body.get("stream_options", {}).get("include_usage", False)
        prompt = body["messages"][-1]["content"] if self._is_chat else body["prompt"]
        self._words = str(prompt).split() or ["nothing"]
        tokens = len(self._words)
        self._usage = (
            {
                "prompt_tokens": tokens,
                "completion_tokens": self._n * tokens,
                "total_tokens": (1 + self._n) * tokens,
            }
            if counts
            else None
        )

    def whole(self) -> dict[str, Any]:
        text, calls = " ".join(self._words), self._calls()
        said: dict[str, Any] = {"text": text}
        if self._is_chat:
            message = {"role": "assistant", "content": None if calls else text}
            said = {"message": message | ({"tool_calls": calls} if calls else {})}
        choices = [{"index": at, **said, "finish_reason": "stop"} for at in range(self._n)]
        return {**self._head(""), "choices": choices, "usage": self._usage}

    def events(self) -> Iterator[dict[str, Any]]:
        for at in range(self._n):
            for word in self._words:
                said: dict[str, Any] = (
                    {"delta": {"content": f"{word} "}} if self._is_chat else {"text": f"{word} "}
                )
                yield {**self._head(".chunk"), "choices": [{"index": at, **said, "finish_reason": None}]}
            end: dict[str, Any] = {"delta": {}} if self._is_chat else {"text": ""}
            yield {**self._head(".chunk"), "choices": [{"index": at, **end, "finish_reason": "stop"}]}
        if self._wants_usage and self._usage:
            yield {**self._head(".chunk"), "choices": [], "usage": self._usage}

    def _calls(self) -> list[dict[str, Any]]:
        return [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": it["function"]["name"], "arguments": "{}"},
            }
            for it in self._tools[:1]
        ]

    def _head(self, suffix: str) -> dict[str, Any]:
        kind = f"chat.completion{suffix}" if self._is_chat else "text_completion"
        return {"id": "cmpl-of-the-backend", "object": kind, "created": 1_700_000_000, "model": MODEL}


@contextmanager
def in_a_thread(world: OpenAiWorld) -> Iterator["asyncio.AbstractEventLoop"]:
    """The world serves on a loop of its own, for tests that have none; what it shall do is given to that loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(world.up(), loop).result(10)
        yield loop
        asyncio.run_coroutine_threadsafe(world.down(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
