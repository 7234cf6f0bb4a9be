"""The control API at our doors: what `tenants.api` needs of a listener, and how a stop is said to its clients."""

from collections.abc import Awaitable, Sequence
from typing import Final

from starlette.types import ASGIApp

from gateway.auth.credentials import credential
from gateway.errors import Code, GatewayError
from gateway.frontends.http_downstream import HttpDownstream
from gateway.frontends.http_exchange import Message, Receive
from tenants.api import problems
from tenants.api.problems import Problem
from tenants.keys import Secret

CONTROL: Final = b"/control/"


class ControlDownstream(HttpDownstream):
    """A refusal of the gateway's own is a problem too (RFC 9457)."""

    def asked(self, application: ASGIApp, scope: Message, receive: Receive) -> Awaitable[None]:
        """Paths are matched raw: no name here needs an escape."""
        scope["state"]["request_id"] = self.request_id
        scope["path"] = scope["raw_path"].decode("latin-1")
        return application(scope, receive, self.relay)

    async def refuse(self, error: GatewayError) -> None:
        problem = Problem(error.code, error.sentence)
        headers = [(name.encode(), value.encode()) for name, value in problem.headers.items()]
        body, kind = problem.details(self.request_id), problems.CONTENT_TYPE.encode()
        await self.answer(problem.kind.status, body, extra=headers, content_type=kind)


def control_credential(authorization: Sequence[bytes], api_key: Sequence[bytes]) -> Secret | None:
    """As everywhere (`credential`). Raises Problem."""
    try:
        return credential(authorization, api_key)
    except GatewayError as error:
        if error.code is Code.TWO_CREDENTIALS:
            raise Problem(error.code, error.sentence) from error
        raise problems.unauthenticated() from error
