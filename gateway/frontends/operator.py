"""The operator's door: figures, health and the control API, on a listener of its own that is on loopback unless somebody says otherwise.

Figures and health are without a credential, so nothing of them names a tenant, a key or a request.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway.errors import Code, GatewayError
from gateway.frontends import routes
from gateway.frontends.control import CONTROL, ControlDownstream
from gateway.frontends.http import Readiness, refusal
from gateway.frontends.http_downstream import HttpDownstream
from gateway.frontends.http_exchange import EXTENSION, Receive, Send
from gateway.frontends.oip_rest import Scope
from gateway.telemetry.prometheus import CONTENT_TYPE

CONNECTIONS: Final = 64

_REFUSALS: Final = {404: Code.NO_SUCH_PATH, 405: Code.METHOD_NOT_ALLOWED}


@dataclass(frozen=True, slots=True)
class OperatorDoor:
    """The application of the operator's listener. Every answer carries `x-request-id`."""

    paths: ASGIApp
    new_id: Callable[[], str]
    control: ASGIApp | None = None  # None: it is not offered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange, request_id = scope["extensions"][EXTENSION], self.new_id()
        downstream: HttpDownstream
        if self.control is not None and scope["raw_path"].startswith(CONTROL):
            downstream = ControlDownstream(exchange, request_id)
            answer = downstream.asked(self.control, scope, receive)
        else:
            downstream = HttpDownstream(exchange, request_id)
            scope["path"] = scope["raw_path"].decode("latin-1")  # matched raw, as at the other door
            answer = self.paths(scope, receive, downstream.relay)
        try:
            await answer
        except asyncio.CancelledError:  # the client left, or the grace of a stop is over
            if not downstream.started:
                await downstream.refuse(GatewayError(Code.STOPPING, retry_after_seconds=1))


def operator_paths(
    metrics: Callable[[], Awaitable[str]], readiness: Callable[[], Awaitable[Readiness]]
) -> Starlette:
    """`metrics` gives the present figures as Prometheus text."""

    async def figures(_: Request) -> Response:
        return Response(await metrics(), headers={"content-type": CONTENT_TYPE})

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        now = await readiness()
        return JSONResponse({"status": now.state}, status_code=200 if now.ready else 503)

    async def refuse(_: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        allowed = {"allow": "GET, HEAD"} if status == 405 else None  # noqa: PLR2004
        return refusal(GatewayError(_REFUSALS.get(status, Code.INTERNAL)), allowed)

    ours = {"/metrics": figures, "/healthz": healthz, "/readyz": readyz}
    paths = Starlette(
        routes=[Route(it.path, ours[it.path]) for it in routes.OPERATOR],
        exception_handlers=dict.fromkeys((HTTPException, Exception), refuse),
    )
    paths.router.redirect_slashes = False  # to whatever host the client names
    return paths
