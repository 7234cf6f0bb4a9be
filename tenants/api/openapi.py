"""The OpenAPI 3.1 document of the control API, made from `routes.py` and the types that it names. Pure."""

from typing import Any, Final

import msgspec

from tenants.api.bodies import MOST_BYTES, MOST_OTHER_BYTES
from tenants.api.problems import CONTENT_TYPE, TABLE, TYPE, ProblemDetails
from tenants.api.routes import BASE, OPERATIONS, Operation
from tenants.ports import MOST_KEYS
from tenants.usage import UNITS

PATH: Final = "/control/openapi.json"

_JSON: Final = "application/json"
_REF: Final = "#/components/schemas/{name}"
_DESCRIPTION: Final = f"""Tenants, who acts for them, their keys, and what they may call.

Operators call it on the operator's listener with a key or a token of theirs, tenants on the public one with a key of a service account or
with a token of an issuer that they trust. Every answer carries x-request-id; a refusal is an RFC 9457 problem whose type is {TYPE}<code>.
A body has at most {MOST_OTHER_BYTES} bytes, a plan, model, fleet or issuer {MOST_BYTES}."""

_SUCCESS: Final = {200: "Done", 201: "Created", 204: "Done", 304: "As you have it"}
_QUERY: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "cursor": ("Where the page begins: the next_cursor of the one before", {"type": "string"}),
    "limit": ("Most items of a page", {"type": "integer", "minimum": 1, "maximum": MOST_KEYS}),
    "series": (
        "Which series of audit bodies, as their bytes name them: with a comma between two, at most 100",
        {"type": "string"},
    ),
    "data_key": (
        "The key that they are sealed with, as their entries name it in sealed_with",
        {"type": "string"},
    ),
    "by": ("How long a period is: a month, if it is not said", {"type": "string", "enum": [*UNITS]}),
    "from": (
        "The period in which that time is, and later ones: as 2026-11, 2026-11-27 or 2026-11-27T15, UTC",
        {"type": "string"},
    ),
    "to": ("Only periods that begin before that time", {"type": "string"}),
    "key": ("Of the key with this id alone", {"type": "string"}),
    "model": ("Of this model alone, by its name, or by its id where it is gone", {"type": "string"}),
    "reason": (
        "Why: it is in the event of a change. A break-glass key says it with every request, reads too, or is refused (403)",
        {"type": "string", "maxLength": 500},
    ),
}
_TAG_PATTERN: Final = r'^"[!#-~]{1,100}"$'


def document() -> dict[str, Any]:
    """All of it, fit for JSON."""
    kinds = [kind for it in OPERATIONS for kind in (it.body, it.answer) if kind is not None]
    distinct = list(dict.fromkeys([*kinds, ProblemDetails]))
    refs, schemas = msgspec.json.schema_components(distinct, ref_template=_REF)
    schema_of = dict(zip(distinct, refs, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for it in OPERATIONS:
        paths.setdefault(it.full_path, {})[it.method.lower()] = _operation(it, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Model gateway: control API", "version": "1", "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
        "security": [{"bearer": []}, {"key": []}],
    }


def _operation(it: Operation, schema_of: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": it.id,
        "summary": it.summary[0].upper() + it.summary[1:],
        "tags": [it.path.split("/")[1] if it.base == BASE else "audit"],
        "parameters": _parameters(it),
        "responses": _responses(it, schema_of),
    }
    if it.body is not None:
        required = any(field.required for field in msgspec.structs.fields(it.body))
        described["requestBody"] = {
            "required": required,
            "content": {_JSON: {"schema": schema_of[it.body]}},
        }
    return described


def _parameters(it: Operation) -> list[dict[str, Any]]:
    found = [_parameter("path", name, "", {"type": "string"}, required=True) for name in it.names]
    found += [_parameter("query", name, *_QUERY[name]) for name in it.query]
    tag = {"type": "string", "pattern": _TAG_PATTERN}
    if it.is_once:
        key = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"}
        found.append(_parameter("header", "Idempotency-Key", "The same one for a day: done once", key))
    if it.is_guarded:
        found.append(_parameter("header", "If-Match", "The ETag that you have read", tag))
    if it.method == "PUT":
        found.append(_parameter("header", "If-None-Match", "* creates", {"type": "string", "enum": ["*"]}))
    if it.is_tagged:
        found.append(_parameter("header", "If-None-Match", "The ETag that you have", {"type": "string"}))
    return found


def _parameter(
    where: str, name: str, description: str, schema: dict[str, Any], *, required: bool = False
) -> dict[str, Any]:
    said = {"description": description} if description else {}
    return {"in": where, "name": name, **said, "required": required, "schema": schema}


def _responses(it: Operation, schema_of: dict[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status in it.successes:
        found[str(status)] = {"description": _SUCCESS[status], "headers": _headers(it)}
        if status not in (204, 304):
            found[str(status)]["content"] = {_JSON: {"schema": schema_of[it.answer]}}
    for status in sorted({TABLE[code].status for code in it.problems}):
        kinds = [TABLE[code] for code in it.problems if TABLE[code].status == status]
        found[str(status)] = {
            "description": ". ".join(dict.fromkeys(kind.title for kind in kinds)),
            "headers": _described(
                {"x-request-id": "The request's id"}
                | ({"retry-after": "Seconds"} if any(kind.retry_after_seconds for kind in kinds) else {})
            ),
            "content": {CONTENT_TYPE: {"schema": schema_of[ProblemDetails]}},
        }
    return found


def _headers(it: Operation) -> dict[str, Any]:
    names = {"x-request-id": "The request's id"}
    if it.gives_tag:
        names["etag"] = "What If-Match and If-None-Match take"
    if it.is_once:
        names["idempotency-replayed"] = "true where it was done before and not again"
    return _described(names)


def _described(names: dict[str, str]) -> dict[str, Any]:
    return {name: {"description": said, "schema": {"type": "string"}} for name, said in names.items()}
