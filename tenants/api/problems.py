"""ONE table: what can go wrong in the control API, and how it is said (RFC 9457). Pure.

No sentence tells whether something that is not the caller's exists: another tenant and its things read as absent ones do.
"""

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from tenants.errors import Invalid, TableUnavailable, TenantsError

MOST_CHARACTERS: Final = 1000
CONTENT_TYPE: Final = "application/problem+json"
TYPE: Final = "urn:gateway:problem:"


@dataclass(frozen=True, slots=True)
class Kind:
    """How one code is said; `retry_after_seconds` where trying again may help."""

    status: int
    title: str
    retry_after_seconds: int | None = None


# A code is never given another meaning.
TABLE: Final = MappingProxyType(
    {
        "malformed": Kind(400, "The request is malformed"),
        "two_credentials": Kind(400, "Two different credentials in one request"),
        "unauthenticated": Kind(401, "The credential is missing or not valid"),
        "forbidden": Kind(403, "This credential may not do that"),
        "not_found": Kind(404, "There is no such thing"),
        "no_such_path": Kind(404, "There is nothing at this path"),
        "method_not_allowed": Kind(405, "This path takes another method"),
        "destroyed": Kind(410, "It is destroyed, for ever"),
        "already_exists": Kind(409, "It exists already"),
        "in_use": Kind(409, "It is in use"),
        "conflict": Kind(409, "Somebody else was faster", retry_after_seconds=1),
        "stale": Kind(412, "It was changed since it was read"),
        "body_too_large": Kind(413, "The body is too large"),
        "not_json": Kind(415, "The body must be JSON as it is"),
        "invalid": Kind(422, "What was asked for breaks a rule"),
        "idempotency_key_reused": Kind(422, "This idempotency key was used for something else"),
        "precondition_required": Kind(428, "Say what you have read"),
        "rate_limited": Kind(429, "Too many requests", retry_after_seconds=1),
        "too_many_at_once": Kind(429, "Too many requests at once", retry_after_seconds=1),
        "internal": Kind(500, "The gateway made a mistake"),
        "unreadable": Kind(500, "A stored record cannot be read"),
        "table_unavailable": Kind(503, "The state store gave no answer", retry_after_seconds=1),
        "sealing_unavailable": Kind(503, "The key that seals this cannot be had", retry_after_seconds=1),
        "issuer_unavailable": Kind(503, "The issuer of the token gave no keys", retry_after_seconds=1),
        "stopping": Kind(503, "The gateway is stopping", retry_after_seconds=1),
        "deadline_exceeded": Kind(504, "It did not finish in time", retry_after_seconds=1),
    }
)


# What clients call what the directory calls otherwise.
_FIELDS: Final = MappingProxyType({"expires_us": "expires_at", "account_id": "account"})


class ProblemDetails(Struct, frozen=True, rename={"kind": "type"}):
    """RFC 9457: `type` names the problem for ever, `instance` is the request's id, `path` leads to the fault in what was asked."""

    kind: str
    title: str
    status: int
    detail: str
    instance: str
    path: str | UnsetType = UNSET


class Problem(Exception):
    """A refusal of the control API. `allow` are the methods that a path takes, `retry_after_seconds` goes before the table's; all is
    public but `private`, which is for the log.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        path: str = "",
        allow: str = "",
        private: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(private or detail)
        self.code = code
        self.kind = TABLE[code]
        self.detail = detail[:MOST_CHARACTERS]  # it may say again what was sent
        self.path = path[:MOST_CHARACTERS]
        self.allow = allow
        self.private = private
        self.retry_after_seconds = retry_after_seconds or self.kind.retry_after_seconds

    def details(self, request_id: str) -> bytes:
        return msgspec.json.encode(
            ProblemDetails(
                kind=f"{TYPE}{self.code}",
                title=self.kind.title,
                status=self.kind.status,
                detail=self.detail,
                instance=request_id,
                path=self.path or UNSET,
            )
        )

    @property
    def headers(self) -> dict[str, str]:
        """What goes with it beside its body."""
        headers = {}
        if self.retry_after_seconds is not None:
            headers["retry-after"] = str(math.ceil(self.retry_after_seconds))
        if self.code == "unauthenticated":
            headers["www-authenticate"] = "Bearer"
        if self.allow:
            headers["allow"] = self.allow
        return headers


def of(error: TenantsError) -> Problem:
    """What the directory refuses, as this API says it."""
    match error:
        case Invalid():
            return Problem("invalid", error.reason, path=_FIELDS.get(error.path, error.path))
        case TableUnavailable():
            return Problem("table_unavailable", error.sentence)
    return Problem(error.code if error.code in TABLE else "internal", error.sentence)


def unauthenticated() -> Problem:
    """A missing, malformed, unknown, revoked, expired and foreign credential all read the same."""
    return Problem(
        "unauthenticated", "send a key or token of this listener's as Authorization: Bearer, or as x-api-key"
    )
