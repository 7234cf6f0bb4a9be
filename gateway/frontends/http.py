"""The HTTP door: which callable answers which path, and what is true of every answer.

A call of a model goes straight to its front end; Starlette routes the rest. Every answer carries `x-request-id`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway import __version__
from gateway.errors import Code, GatewayError
from gateway.frontends import routes
from gateway.frontends.control import CONTROL, ControlDownstream
from gateway.frontends.http_downstream import HttpDownstream, error_headers
from gateway.frontends.http_exchange import EXTENSION, Receive, Send
from gateway.frontends.oip_rest import METHOD, MODEL_PATH, OipRest, Scope
from gateway.frontends.openai import BELOW, OpenAiRest
from gateway.frontends.openai_downstream import OpenAiDownstream
from gateway.wire.oip import error_body
from gateway.wire.ratelimit import Headers, ratelimit_headers

# What clients look at before they use it; only what is offered here.
EXTENSIONS = ["classification", "sequence", "statistics", "binary_tensor_data", "parameters"]


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether new requests are served: `ok`, `degraded` (served from what is known), or a sentence why not."""

    ready: bool
    state: str


@dataclass(frozen=True, slots=True)
class HttpDoor:
    """The application of the public listener."""

    oip: OipRest
    others: ASGIApp
    new_id: Callable[[], str]
    openai: OpenAiRest | None = None  # None: that API is not offered
    control: ASGIApp | None = None  # the same

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange, request_id = scope["extensions"][EXTENSION], self.new_id()
        downstream: HttpDownstream | OpenAiDownstream
        answer: Awaitable[None]
        if self.openai is not None and scope["raw_path"].startswith(BELOW):
            downstream = OpenAiDownstream(exchange, request_id)
            answer = self.openai(scope, exchange, downstream)
        elif self.control is not None and scope["raw_path"].startswith(CONTROL):
            downstream = ControlDownstream(exchange, request_id)
            answer = downstream.asked(self.control, scope, receive)
        else:
            downstream = HttpDownstream(exchange, request_id)
            answer = self._answer(scope, receive, downstream)
        try:
            await answer
        except asyncio.CancelledError:
            # The client left, and hears nothing of this, or the grace of a stop is over. The call is settled by now, and uvicorn
            # would report a crash.
            stopping = GatewayError(Code.STOPPING, retry_after_seconds=1)
            if downstream.started:
                downstream.cut(stopping)
            else:
                await downstream.refuse(stopping)

    def _answer(self, scope: Scope, receive: Receive, downstream: HttpDownstream) -> Awaitable[None]:
        path = MODEL_PATH.fullmatch(scope["raw_path"])
        if path is not None and scope["method"] == METHOD[path["asked"]]:
            return self.oip(scope, scope["extensions"][EXTENSION], downstream, path)
        scope["state"]["request_id"] = downstream.request_id
        scope["path"] = scope["raw_path"].decode("latin-1")  # matched raw, as Triton does
        return self.others(scope, receive, downstream.relay)


def other_paths(oip: OipRest, readiness: Callable[[], Readiness]) -> Starlette:
    """What we answer ourselves: health without a credential, all else with one."""

    async def live(_: Request) -> Response:
        return Response()

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> Response:
        now = readiness()
        return JSONResponse({"status": now.state}, status_code=200 if now.ready else 503)

    async def server(request: Request) -> Response:
        standing = await oip.examine(request.scope, request.state.request_id)
        body = {"name": "triton", "version": __version__, "extensions": EXTENSIONS}
        return JSONResponse(body, headers=_text(ratelimit_headers(standing)))

    async def nowhere(request: Request) -> Response:
        """Before the caller is known, a path that is not here looks like one that is."""
        allowed = allowed_method(request.scope["raw_path"])
        answer = GatewayError(Code.METHOD_NOT_ALLOWED if allowed else Code.NO_SUCH_PATH)
        try:
            await oip.examine(request.scope, request.state.request_id, answer)
        except GatewayError as error:
            answer = error
        told = {"allow": allowed} if allowed and answer.code is Code.METHOD_NOT_ALLOWED else None
        return refusal(answer, told)

    def allowed_method(raw_path: bytes) -> str | None:
        path = MODEL_PATH.fullmatch(raw_path)
        if path is not None:
            return METHOD[path["asked"]]
        return "GET, HEAD" if raw_path.decode("latin-1") in ours else None

    async def refuse(request: Request, error: Exception) -> Response:
        """Starlette's own refusals are for methods and targets that it does not route. uvicorn logs what nobody meant to raise."""
        match error:
            case GatewayError():
                return refusal(error)
            case HTTPException():
                return await nowhere(request)
        return refusal(GatewayError(Code.INTERNAL))

    ours = {
        "/healthz": healthz,
        "/readyz": ready,
        "/v2/health/live": live,
        "/v2/health/ready": ready,
        "/v2": server,
    }
    return Starlette(
        routes=[
            *(Route(it.path, ours[it.path]) for it in routes.OTHERS),
            Route("/{path:path}", nowhere),  # of another method, or not even a path: HTTPException
        ],
        exception_handlers=dict.fromkeys((GatewayError, HTTPException, Exception), refuse),
    )


def refusal(error: GatewayError, more: dict[str, str] | None = None) -> Response:
    """A refusal, as the one table says it: to the byte what `HttpDownstream.refuse` makes of it."""
    own = ratelimit_headers(error.standing) + error_headers(error)
    headers = _text(own) | (more or {}) | {"content-type": "application/json"}
    return Response(error_body(error.sentence), error.rendering.http, headers)


def _text(headers: Headers) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in headers}
