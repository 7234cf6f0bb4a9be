"""The control API as a Starlette application: from a request to an operation of `routes.py`, and from what comes of it to an answer.

In this order: who is calling, is there such an operation, may they, what do its headers say, what does its body say, do it. Nothing of a
body is read for somebody who may not ask. What a break-glass key asks has its event before any of that is looked at. Every answer here is
JSON; a refusal is a problem (RFC 9457).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from tenants.acts import REASON_CHARACTERS, Act
from tenants.api import bodies, heads, problems
from tenants.api.asked import Answer, Asked, Caller, Condition, Who
from tenants.api.openapi import PATH, document
from tenants.api.problems import Problem
from tenants.api.routes import OPERATIONS, Operation
from tenants.data_keys import BACKUP_DAYS
from tenants.directory import Directory
from tenants.errors import NotFound, TenantsError
from tenants.keys import Secret
from tenants.ports import Authorizer, RecordKeys
from tenants.tenant import Tenant
from tenants.usage import UsageReader

Listener = Literal["operator", "public"]
Credential = Callable[[Sequence[bytes], Sequence[bytes]], Secret | None]
"""The one credential in the values of Authorization and x-api-key, None without any. Raises Problem."""
Identify = Callable[[Secret, str, int, Listener], Awaitable[Who | None]]
"""Whose working credential it is, asked from that address at that microsecond at that listener. Raises Problem: forbidden, rate_limited,
table_unavailable, issuer_unavailable; TableUnavailable."""

MOST_AT_ONCE: Final = 100
"""Requests of one tenant, of all operators, and of all break-glass keys: a program of operators that runs wild locks no safe."""
_FAULT: Final = 500
_WHAT_CHARACTERS: Final = 200

_log: Final = logging.getLogger(__name__)
_DOCUMENT: Final = msgspec.json.encode(document())


@dataclass(frozen=True, slots=True)
class Control:
    """`now_us` gives microseconds since 1970, UTC. Operators' credentials work on their own listener alone, tenants' on the public one."""

    directory: Directory
    authorizer: Authorizer
    credential: Credential
    identify: Identify
    now_us: Callable[[], int]
    seconds: float = 300.0
    backup_days: int = BACKUP_DAYS
    """How long back-ups of the wrapped data keys are kept."""
    record_keys: RecordKeys | None = None
    """None: here is nothing sealed."""
    usage: UsageReader | None = None
    """None: nobody counts here."""
    uses: Counter[str] = field(default_factory=Counter)
    """Requests of each break-glass key."""
    _under_way: Counter[str] = field(default_factory=Counter)

    def paths(self, listener: Listener) -> Starlette:
        """The application of one listener. `request.state.request_id` names each request."""

        async def refuse(request: Request, error: Exception) -> Response:
            problem = await self._told(request, listener, error)
            if problem.private or problem.kind.status >= _FAULT:
                level = logging.INFO if problem.private else logging.ERROR
                _log.log(level, "%s %s: %s", request.state.request_id, problem.code, error)
            return _refusal(problem, request)

        paths = Starlette(
            routes=[
                Route(PATH, self._described),
                *(self._route(path, them, listener) for path, them in _by_path().items()),
            ],
            exception_handlers=dict.fromkeys(
                (Problem, TenantsError, HTTPException, TimeoutError, Exception), refuse
            ),
        )
        paths.router.redirect_slashes = False  # to whatever host the client names
        return paths

    async def _described(self, _: Request) -> Response:
        """Needs no credential: it is in the documentation, and says nothing of who is here."""
        return Response(_DOCUMENT, media_type="application/json")

    def _route(self, path: str, operations: list[Operation], listener: Listener) -> Route:
        by_method = {operation.method: operation for operation in operations}

        async def answer(request: Request) -> Response:
            operation = by_method["GET" if request.method == "HEAD" else request.method]  # type: ignore[index]
            async with asyncio.timeout(self.seconds):
                return await self._answered(request, operation, listener)

        return Route(path, answer, methods=list(by_method))

    async def _answered(self, request: Request, operation: Operation, listener: Listener) -> Response:
        now_us = self.now_us()
        caller = await self._caller(request, listener, now_us)
        with self._counted(caller):
            if caller.who.role == "break-glass":
                await self._broken_glass(operation, caller, request, now_us)
            tenant = await self._tenant(caller, request.path_params.get("tenant"))
            subject = caller.who.tenant if operation.is_own else tenant
            policies = caller.check(operation.action, subject, now_us)
            asked = await self._asked(request, operation, caller, tenant, now_us)
            answer = await operation.do(asked)
        if operation.is_change or answer.secret:
            _log.info(
                "%s %s by %s: %d, allowed by %s",
                request.state.request_id,
                operation.id,
                caller.who.actor,
                answer.status,
                ", ".join(policies),
            )
        return _rendered(answer, request, operation)

    async def _broken_glass(
        self, operation: Operation, caller: Caller, request: Request, now_us: int
    ) -> None:
        """Nobody uses a break-glass key unseen: its event says what is asked and why before anything is done or told, or nothing is. An
        attempt without a reason is told in the log alone. Raises Problem, TenantsError; fails closed.
        """
        who, request_id = caller.who, request.state.request_id
        self.uses.update((who.id,))
        if not caller.gives_reason:
            _log.critical("%s %s by %s: refused, no reason given", request_id, operation.id, who.actor)
            raise Problem("forbidden", "a break-glass key says why with every request: add ?reason=...")
        reason = heads.query(request.query_params.multi_items(), operation.query)["reason"]
        what = " ".join((operation.id, *request.path_params.values()))[:_WHAT_CHARACTERS]
        Act(who.actor, now_us, reason)  # one that is too long is refused, as everybody's is
        act = Act(who.actor, now_us, f"{what}: {reason}"[:REASON_CHARACTERS])
        _log.critical("%s by %s: %s", request_id, who.actor, act.reason)
        await self.directory.keys.broke_glass(who.id, act)

    @contextmanager
    def _counted(self, caller: Caller) -> Iterator[None]:
        """What one tenant asks at once takes memory and turns from the others, so it has a bound. Raises Problem."""
        own = caller.who.tenant.id if caller.who.tenant else caller.who.role
        if self._under_way[own] >= MOST_AT_ONCE:
            raise Problem("too_many_at_once", f"at most {MOST_AT_ONCE} at once; let some finish first")
        self._under_way[own] += 1
        try:
            yield
        finally:
            self._under_way[own] -= 1
            if not self._under_way[own]:
                del self._under_way[own]

    async def _caller(self, request: Request, listener: Listener, now_us: int) -> Caller:
        """Who is calling. Raises Problem, TableUnavailable; fails closed."""
        headers = request.scope["headers"]
        credential = self.credential(
            *([value for name, value in headers if name == it] for it in (b"authorization", b"x-api-key"))
        )
        address = request.client.host if request.client else ""
        found = None if credential is None else await self.identify(credential, address, now_us, listener)
        if found is None or (found.tenant is None) != (listener == "operator"):
            raise problems.unauthenticated()
        return Caller(found, self.authorizer, bool(request.query_params.get("reason", "").strip()))

    async def _tenant(self, caller: Caller, name: str | None) -> Tenant | None:
        """That of the path. To whoever is of another one it is not there, whether it is or not. Raises NotFound."""
        own = caller.who.tenant
        if name is None:
            return None
        if own is not None and name != own.name:
            raise NotFound("tenant", name)
        return own or await self.directory.tenants.show(name)

    async def _asked(
        self, request: Request, operation: Operation, caller: Caller, tenant: Tenant | None, now_us: int
    ) -> Asked:
        """All that the request says. Raises Problem, Invalid."""
        query = heads.query(request.query_params.multi_items(), operation.query)
        headers = request.headers
        condition = Condition()
        if operation.is_guarded:
            condition = heads.condition(
                headers.getlist("if-match"),
                headers.getlist("if-none-match"),
                may_create=operation.method == "PUT",
            )
        body = await _body(request, operation) if operation.is_change else None
        reason, once = query.get("reason", ""), None
        if operation.is_once:
            asked = (operation.id, *request.path_params.values(), reason)
            parts = [part.encode() for part in asked] + [msgspec.json.encode(body)]
            once = heads.once(headers.getlist("idempotency-key"), caller.who.id, parts)
        return Asked(
            directory=self.directory,
            caller=caller,
            act=Act(caller.who.actor, now_us, reason, once),
            names=request.path_params,
            tenant=tenant,
            body=body,
            condition=condition,
            after=heads.position(query.get("cursor")),
            limit=heads.limit(query.get("limit")),
            backup_days=self.backup_days,
            query=query,
            record_keys=self.record_keys,
            usage=self.usage,
        )

    async def _told(self, request: Request, listener: Listener, error: Exception) -> Problem:
        """What went wrong, as it is said. Before the caller is known, a path that is not here looks like one that is."""
        match error:
            case Problem():
                return error
            case TenantsError():
                return problems.of(error)
            case TimeoutError():
                return Problem("deadline_exceeded", "it took too long; a change may have been made")
            case HTTPException():
                try:
                    await self._caller(request, listener, self.now_us())
                except (Problem, TenantsError) as refusal:
                    return refusal if isinstance(refusal, Problem) else problems.of(refusal)
                return _nowhere(error)
        return Problem("internal", "it is logged under this id")


def _by_path() -> dict[str, list[Operation]]:
    found: dict[str, list[Operation]] = {}
    for operation in OPERATIONS:
        found.setdefault(operation.full_path, []).append(operation)
    return found


def _nowhere(error: HTTPException) -> Problem:
    """What Starlette does not route."""
    if allow := ", ".join(sorted(filter(None, (error.headers or {}).get("Allow", "").split(", ")))):
        return Problem("method_not_allowed", f"it takes {allow}", allow=allow)
    return Problem("no_such_path", f"all there is is described at {PATH}")


async def _body(request: Request, operation: Operation) -> Struct | None:
    """Raises Problem."""
    headers, content = request.headers, bytearray()
    if headers.get("content-encoding", "identity") != "identity":
        raise Problem("not_json", "send the body without a Content-Encoding")
    try:
        async for piece in request.stream():
            content += piece
            if len(content) > operation.most_bytes:
                raise Problem("body_too_large", f"a body has at most {operation.most_bytes} bytes here")
    except ClientDisconnect:
        raise Problem("malformed", "the body has no end") from None
    if content and not _is_json(headers.getlist("content-type")):
        raise Problem("not_json", "send Content-Type: application/json")
    if operation.body is not None:
        return bodies.read(bytes(content), operation.body)
    if content:
        raise Problem("malformed", "this takes no body")
    return None


def _is_json(content_type: Sequence[str]) -> bool:
    return [text.partition(";")[0].strip().lower() for text in content_type] == ["application/json"]


def _rendered(answer: Answer, request: Request, operation: Operation) -> Response:
    headers = {"cache-control": "no-store" if answer.secret else "private, no-cache"}
    if answer.tag is not None:
        headers["etag"] = answer.tag
        if operation.is_tagged and heads.is_known(answer.tag, request.headers.getlist("if-none-match")):
            return Response(status_code=304, headers=headers)
    if answer.replayed:
        headers["idempotency-replayed"] = "true"
    if answer.body is None:
        return Response(status_code=answer.status, headers=headers)
    return Response(msgspec.json.encode(answer.body), answer.status, headers, "application/json")


def _refusal(problem: Problem, request: Request) -> Response:
    return Response(
        problem.details(request.state.request_id),
        problem.kind.status,
        problem.headers | {"cache-control": "no-store"},
        problems.CONTENT_TYPE,
    )
