"""Every route and RPC that there is, as its own table has it; right requests for each; and what answers say in the words of the matrix."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from tritonclient.grpc import service_pb2 as official

from gateway.errors import TABLE, Code
from gateway.frontends import routes
from tenants.api.openapi import PATH
from tenants.api.problems import TYPE
from tenants.api.routes import OPERATIONS, Operation
from tests.e2e.callers import (
    ABSENT,
    ECHO,
    FOREIGN,
    FOREIGN_MODEL,
    HOME,
    KINDS,
    SHELVED,
    Callers,
    Credential,
    Listener,
)
from tests.e2e.matrix import CONTROL, DOORS, NOBODY
from tests.e2e.world import Answer, fp32

_KNOWN: Final = ("Check", "Watch", "List")  # of grpc.health.v1, of which there is no descriptor here
OFFICIAL: Final = {
    *(
        f"/{service.full_name}/{method.name}"
        for service in official.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ),
    *(f"/{routes.HEALTH}/{name}" for name in _KNOWN),
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
}
"""What a client of the official descriptors can call, served or not."""


@dataclass(frozen=True, slots=True)
class Way:
    """One thing that can be asked over HTTP, and at which listeners it is."""

    label: str
    method: str
    path: str
    at: frozenset[Listener]
    operation: Operation | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(re.findall(r"\{(\w+)\}", self.path))

    def expected(self, by: Credential, at: Listener) -> str:
        """What the matrix says of it."""
        if self.operation is not None:
            return CONTROL[self.label][by.column if at == by.listener else NOBODY]
        if at in self.at:
            return DOORS[self.label][by.column]
        # The operator's listener has nothing to hide. At the public one it is nobody's business what is not there.
        return "401" if at == "public" and not by.is_a_tenants else "-"


def of_doors() -> tuple[Way, ...]:
    """Each path once, though both listeners have it."""
    at: dict[tuple[str, str], set[Listener]] = {("GET", PATH): {"public", "operator"}}
    for it in routes.PUBLIC:
        at.setdefault((it.method, it.path), set()).add("public")
    for it in routes.OPERATOR:
        at.setdefault((it.method, it.path), set()).add("operator")
    return tuple(Way(f"{it[0]} {it[1]}", *it, frozenset(listeners)) for it, listeners in at.items())


def of_control(operations: tuple[Operation, ...] = OPERATIONS) -> tuple[Way, ...]:
    both = frozenset[Listener](("public", "operator"))
    return tuple(Way(it.id, it.method, it.full_path, both, it) for it in operations)


WAYS: Final = (*of_control(), *of_doors())


# Right requests over HTTP


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    things: tuple[str, ...] = ()
    """What it changes, if it succeeds."""


def model_of(path: str) -> str:
    """The one that a route is asked for, which can do what it asks."""
    return "vectors" if path == "/v1/embeddings" else "parrot" if path.startswith("/v1/") else ECHO


_ONE: Final = {"privacies": "privacy"}
"""Of these a path names many, and one is called otherwise than without an `s`."""


def names_of(callers: Callers, way: Way, by: Credential) -> dict[str, str]:
    """What is there of the caller's own, for the names in the path."""
    found = dict[str, str]()
    for name in way.names:
        if name == "tenant":
            ruins = way.operation is not None and way.operation.action == "govern" and by.column == "operator"
            found[name] = callers.thing("tenant") if ruins else by.tenant
        elif name in KINDS:
            found[name] = callers.thing(name, found.get("tenant", ""))
        elif name == "name":
            many = way.path.split("/")[3]
            found[name] = callers.thing(_ONE.get(many, many.removesuffix("s")))
        else:
            found[name] = {"model": model_of(way.path), "version": "1"}[name]
    return found


def body_of(callers: Callers, way: Way, model: str) -> Any:
    """None where it takes none, or nothing has to be in it."""
    if way.operation is not None:
        return _CONTROL_BODIES.get(way.label, lambda _: None)(callers)
    return {
        "infer": fp32(1),
        "generate": {"in": [1]},
        "generate_stream": {"in": [1]},
        "chat/completions": {"model": model, "messages": [{"role": "user", "content": "well"}]},
        "completions": {"model": model, "prompt": "well"},
        "embeddings": {"model": model, "input": "well"},
    }.get(re.sub(r"^/v1/|^/v2/.*/", "", way.path))


_CONTROL_BODIES: Final[dict[str, Any]] = {
    "createTenant": lambda here: {"name": here.fresh("tenant"), "plan": "roomy"},
    "changeTenant": lambda _: {"plan": "spare"},
    "closeTenant": lambda _: {"after_seconds": 60},
    "inviteMember": lambda here: {"email": f"{here.fresh('member')}@a.example", "role": "viewer"},
    "changeMember": lambda _: {"role": "billing"},
    "createAccount": lambda here: {"name": here.fresh("account"), "role": "viewer"},
    "changeAccount": lambda _: {"role": "billing"},
    "createKey": lambda _: {"name": "made"},
    "createOperatorKey": lambda _: {"name": "made"},
    "putPlan": lambda _: SHELVED["plan"],
    "putPrivacy": lambda _: SHELVED["privacy"],
    "putModel": lambda _: SHELVED["model"],
    "putFleet": lambda _: SHELVED["fleet"],
    "putIssuer": lambda here: here.issuer(),
    "changeTenantIssuers": lambda _: {"issuers": []},
    "changeTenantCertificates": lambda _: {"certificates": []},
    "putTenantRestrictions": lambda _: {"networks": ["127.0.0.0/8"]},
    "rotateDataKey": lambda here: {"purpose": here.purpose()},
    "reportLeak": lambda here: {"api_key": here.credentials["revoked"].text},
}


def request_of(callers: Callers, way: Way, by: Credential) -> Request:
    """One that is right in all but perhaps who asks: what it is about is there, and nobody has changed it since it was read."""
    names = names_of(callers, way, by)
    path = way.path.format(**names)
    headers = {}
    if way.operation is not None and way.operation.is_guarded:
        headers["if-match"] = callers.etag(path.removeprefix("/control/v1"))
    changes = way.operation is not None and way.operation.is_change
    body = body_of(callers, way, names.get("model", model_of(way.path)))
    return Request(way.method, path, body, headers, tuple(names.values()) if changes else ())


# Requests for what is not the caller's


def absent(thing: str) -> str:
    """An id like that one, which nothing has."""
    return thing[:-1] + ("a" if thing[-1] != "a" else "b")


def about_things(way: Way) -> bool:
    """Whether it is asked about something that may be another's, by its path or by its body."""
    return bool(way.names) or way.path in {it.path for it in routes.OPENAI if it.method == "POST"}


def foreign_and_absent(callers: Callers, way: Way, by: Credential) -> Iterator[tuple[Request, Request]]:
    """Pairs of requests that differ in this alone: what one names is there and somebody else's, what the other names is not there.

    Their `things` are what they name.
    """
    own = FOREIGN if by.column == "stranger" else by.tenant
    other = HOME if own == FOREIGN else FOREIGN
    if way.operation is None:
        model = model_of(way.path) if own == FOREIGN else FOREIGN_MODEL
        found = [
            Request(
                way.method, way.path.format(model=it, version="1"), body_of(callers, way, it), things=(it,)
            )
            for it in (model, absent(model))
        ]
        yield found[0], found[1]
        return
    if "tenant" not in way.names:
        there = names_of(callers, way, callers.operator)
        yield _pair(callers, way, there, there, {name: absent(it) for name, it in there.items()})
        return
    theirs = {name: callers.thing(name, other) for name in way.names if name in KINDS}
    missing = {name: absent(it) for name, it in theirs.items()}
    there = {"tenant": other} | theirs
    yield _pair(callers, way, there, there, {"tenant": ABSENT} | missing)
    if theirs:
        yield _pair(callers, way, there, {"tenant": own} | theirs, {"tenant": own} | missing)


def _pair(
    callers: Callers,
    way: Way,
    there: Mapping[str, str],
    foreign: Mapping[str, str],
    missing: Mapping[str, str],
) -> tuple[Request, Request]:
    """Both with the ETag of what is there, and one body."""
    headers, body = {}, body_of(callers, way, "")
    if way.operation is not None and way.operation.is_guarded:
        headers["if-match"] = callers.etag(way.path.format(**there).removeprefix("/control/v1"))
    found = [
        Request(way.method, way.path.format(**it), body, headers, tuple(it.values()))
        for it in (foreign, missing)
    ]
    return found[0], found[1]


# Other ways to write a path


def disguises(path: str) -> Iterator[str]:
    """What some server somewhere would read as this path. Here each is another one, which is not there."""
    before, last = path.rsplit("/", 1)
    yield from (f"{path}/", f"/{path}", f"{before}//{last}", f"{path}/.", f"{before}/./{last}", f"/.{path}")
    yield from (
        f"/x/..{path}",
        f"/healthz/..{path}",
        f"/control/v1/..{path}",
        f"/v1/..{path}",
        f"{path}/x/..",
    )
    yield from (
        f"/%2e%2e{path}",
        f"/%2e{path}",
        f"{before}/%{ord(last[0]):02x}{last[1:]}",
        f"{before}%2f{last}",
    )
    yield from (f"/%{ord(path[1]):02x}{path[2:]}", f"{path}%00", f"{path}%20", f"{path}%2f", f"{path}%3fa=b")
    yield from (
        path.upper(),
        f"{path};a=b",
        f"{before}\\{last}",
        f"{path}.json",
        f"{before}/%25{ord(last[0]):02x}{last[1:]}",
    )


def hides(listener: Listener, target: str) -> bool:
    """Whether nobody hears there if there is such a path: at the operator's listener that is a secret of the control API's alone."""
    return listener == "public" or target.startswith(("/control/", "/audit/"))


# What answers say


def said(answer: Answer) -> str:
    """The cell of the matrix that it is, or its status and all that it says."""
    if answer.status in (200, 201, 204):
        return "ok"
    return _CELLS.get(
        (answer.status, _code(answer)), f"{answer.status} {answer.body.decode(errors='replace')}"
    )


_CELLS: Final = {
    (401, "unauthenticated"): "401",
    (403, "forbidden"): "403",
    (404, "not_found"): "404",
    (404, "model_not_found"): "404",
    (404, "no_such_path"): "-",
    (405, "method_not_allowed"): "405",
}
_SENTENCES: Final = {TABLE[code].sentence: code for code in Code}


def _code(answer: Answer) -> str:
    try:
        told = answer.json
    except ValueError:
        return ""
    match told:
        case {"type": str(kind)} if answer.headers["content-type"] == "application/problem+json":
            return kind.removeprefix(TYPE)
        case {"error": {"code": str(code)}}:
            return code
        case {"error": str(sentence)}:
            return _SENTENCES.get(sentence, "")
    return ""


def plainly(answer: Answer, *echoed: str) -> tuple[Any, ...]:
    """All of it, but the request's id and what it says again of what was asked."""
    headers = [(n, "?" if n in ("x-request-id", "date") else v) for n, v in answer.headers.items()]
    body = answer.body.replace(answer.request_id.encode(), b"?")
    for name in echoed:
        body = body.replace(name.encode(), b"?")
    return answer.status, headers, body


# Over gRPC


def message_of(path: str, model: str) -> bytes:
    """The request of an RPC about that model."""
    name = path.rpartition("/")[2]
    if name in ("ModelInfer", "ModelStreamInfer"):
        tensor = {"name": "in", "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [1.0]}}
        return bytes(official.ModelInferRequest(model_name=model, inputs=[tensor]).SerializeToString())
    if name in ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"):
        return bytes(official.ModelReadyRequest(name=model).SerializeToString())
    return b""


@dataclass(frozen=True, slots=True)
class Reply:
    """How an RPC ended, or what its first message says; what goes behind it but the request's id."""

    code: str
    sentence: str
    behind: tuple[tuple[str, str], ...] = ()

    @property
    def said(self) -> str:
        """The cell of the matrix that it is."""
        known = {"OK": "ok", "UNAUTHENTICATED": "401", "PERMISSION_DENIED": "403", "NOT_FOUND": "404"}
        return (known | {"UNIMPLEMENTED": "-"}).get(self.code, f"{self.code} {self.sentence}")


def called(channel: grpc.Channel, path: str, by: Credential, model: str = ECHO) -> Reply:
    """What an RPC says first; on a stream a refusal is a message of it."""
    call: Any = channel.stream_stream(path)(
        iter([message_of(path, model)]),  # type: ignore[arg-type]  # bytes as they are
        metadata=by.metadata,
        timeout=60,
    )
    try:
        first = next(call, None)
        if path.endswith("/Watch"):  # which goes on until its client leaves
            call.cancel()
            return Reply("OK", "")
    except grpc.RpcError:
        return Reply(call.code().name, call.details() or "", _behind(call))
    refused = ""
    if first is not None and path.endswith("/ModelStreamInfer"):
        refused = official.ModelStreamInferResponse.FromString(first).error_message
    return Reply(TABLE[_SENTENCES[refused]].grpc if refused else "OK", refused, _behind(call))


def _behind(call: Any) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, str(value)) for name, value in call.trailing_metadata() or () if name != "x-request-id"
    )
