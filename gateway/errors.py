"""ONE table: what can go wrong, and how each protocol says it.

A refusal is raised as `GatewayError(code, ...)` wherever it is decided and rendered once, by the front end that the call came through.
The sentence is public; `private` goes to the log of the process, never to the client. No sentence tells whether something that is
not the caller's exists: a wrong, revoked, foreign and malformed key read the same, as do a foreign and an unknown model.
"""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

from gateway.call import Standing


class Code(StrEnum):
    BAD_REQUEST = "bad_request"
    TWO_CREDENTIALS = "two_credentials"
    NOT_MASKED = "not_masked"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    MODEL_NOT_FOUND = "model_not_found"
    NO_SUCH_PATH = "no_such_path"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    BODY_TOO_SLOW = "body_too_slow"
    SEQUENCE_LOST = "sequence_lost"
    ALREADY_RUN = "already_run"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    BODY_TOO_LARGE = "body_too_large"
    JSON_TOO_LARGE = "json_too_large"
    ENCODING_NOT_SUPPORTED = "encoding_not_supported"
    RATE_LIMITED = "rate_limited"
    BUDGET_SPENT = "budget_spent"
    TOO_MANY_AT_ONCE = "too_many_at_once"
    HEAD_TOO_LARGE = "head_too_large"
    CLIENT_CLOSED = "client_closed"
    INTERNAL = "internal"
    MODEL_FAILED = "model_failed"
    NOT_RESTORED = "not_restored"
    UPSTREAM_FAILED = "upstream_failed"
    UPSTREAM_UNTRUSTED = "upstream_untrusted"
    MODEL_UNAVAILABLE = "model_unavailable"
    OVERLOADED = "overloaded"
    STOPPING = "stopping"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    SEALING_UNAVAILABLE = "sealing_unavailable"
    DIRECTORY_UNAVAILABLE = "directory_unavailable"
    LIMITS_UNAVAILABLE = "limits_unavailable"
    IDEMPOTENCY_UNAVAILABLE = "idempotency_unavailable"
    ISSUER_UNAVAILABLE = "issuer_unavailable"
    DEADLINE_EXCEEDED = "deadline_exceeded"


@dataclass(frozen=True, slots=True)
class Rendering:
    """How one code is said: HTTP status, gRPC status name (google.rpc.Code), OpenAI error type, public sentence."""

    http: int
    grpc: str
    openai: str
    sentence: str


_INVALID = "invalid_request_error"

TABLE: MappingProxyType[Code, Rendering] = MappingProxyType(
    {
        Code.BAD_REQUEST: Rendering(400, "INVALID_ARGUMENT", _INVALID, "the request is malformed"),
        Code.TWO_CREDENTIALS: Rendering(
            400, "INVALID_ARGUMENT", _INVALID, "two different credentials in one request; send one"
        ),
        Code.NOT_MASKED: Rendering(
            400,
            "INVALID_ARGUMENT",
            _INVALID,
            "personal data in the request cannot be masked, so it was not sent",
        ),
        Code.UNAUTHENTICATED: Rendering(
            401, "UNAUTHENTICATED", "authentication_error", "the credential is missing or not valid"
        ),
        Code.FORBIDDEN: Rendering(
            403, "PERMISSION_DENIED", "permission_error", "this key may not do that with this model"
        ),
        Code.MODEL_NOT_FOUND: Rendering(404, "NOT_FOUND", _INVALID, "there is no such model"),
        Code.NO_SUCH_PATH: Rendering(404, "UNIMPLEMENTED", _INVALID, "there is nothing at this path"),
        Code.METHOD_NOT_ALLOWED: Rendering(405, "UNIMPLEMENTED", _INVALID, "this path takes another method"),
        Code.BODY_TOO_SLOW: Rendering(408, "DEADLINE_EXCEEDED", _INVALID, "the request came in too slowly"),
        Code.ALREADY_RUN: Rendering(
            409,
            "ABORTED",
            _INVALID,
            "a call with this Idempotency-Key has run, or may have; it does not run again",
        ),
        Code.IDEMPOTENCY_KEY_REUSED: Rendering(
            422, "INVALID_ARGUMENT", _INVALID, "this Idempotency-Key was used for another request"
        ),
        Code.SEQUENCE_LOST: Rendering(
            409, "ABORTED", _INVALID, "the sequence was lost with its model's process; start it anew"
        ),
        Code.BODY_TOO_LARGE: Rendering(
            413, "RESOURCE_EXHAUSTED", _INVALID, "the body is larger than the plan allows"
        ),
        Code.JSON_TOO_LARGE: Rendering(
            413, "RESOURCE_EXHAUSTED", _INVALID, "too much JSON; send binary tensors with a Content-Length"
        ),
        Code.ENCODING_NOT_SUPPORTED: Rendering(
            415, "UNIMPLEMENTED", _INVALID, "this Content-Encoding is not supported; send the body as it is"
        ),
        Code.RATE_LIMITED: Rendering(
            429,
            "RESOURCE_EXHAUSTED",
            "rate_limit_error",
            "too many requests; wait as long as Retry-After says",
        ),
        Code.BUDGET_SPENT: Rendering(
            429,
            "RESOURCE_EXHAUSTED",
            "insufficient_quota",
            "a budget of the plan is used up; there is more when Retry-After has passed",
        ),
        Code.TOO_MANY_AT_ONCE: Rendering(
            429, "RESOURCE_EXHAUSTED", "rate_limit_error", "too many requests at once; let some finish first"
        ),
        Code.HEAD_TOO_LARGE: Rendering(
            431, "RESOURCE_EXHAUSTED", _INVALID, "the request's head is too large"
        ),
        Code.CLIENT_CLOSED: Rendering(499, "CANCELLED", "api_error", "the client left"),
        Code.INTERNAL: Rendering(500, "INTERNAL", "api_error", "the gateway made a mistake; it is logged"),
        Code.NOT_RESTORED: Rendering(
            500,
            "INTERNAL",
            "api_error",
            "personal data cannot be put back into the reply, so it is not told",
        ),
        Code.MODEL_FAILED: Rendering(500, "INTERNAL", "api_error", "the model failed while it answered"),
        Code.UPSTREAM_FAILED: Rendering(
            502, "UNAVAILABLE", "api_error", "the model server failed while it had this request"
        ),
        Code.UPSTREAM_UNTRUSTED: Rendering(
            502,
            "UNAVAILABLE",
            "api_error",
            "the model's server did not prove who it is, so nothing was sent to it",
        ),
        Code.MODEL_UNAVAILABLE: Rendering(503, "UNAVAILABLE", "api_error", "the model could not be started"),
        Code.OVERLOADED: Rendering(503, "UNAVAILABLE", "api_error", "the gateway is full; try again soon"),
        Code.STOPPING: Rendering(503, "UNAVAILABLE", "api_error", "the gateway is stopping; try again"),
        Code.AUDIT_UNAVAILABLE: Rendering(
            503, "UNAVAILABLE", "api_error", "the audit log cannot be written, so nothing is served"
        ),
        Code.SEALING_UNAVAILABLE: Rendering(
            503,
            "UNAVAILABLE",
            "api_error",
            "the key that seals this tenant's records cannot be had, so nothing of it is served",
        ),
        Code.DIRECTORY_UNAVAILABLE: Rendering(
            503, "UNAVAILABLE", "api_error", "credentials cannot be checked at the moment"
        ),
        Code.LIMITS_UNAVAILABLE: Rendering(
            503, "UNAVAILABLE", "api_error", "the limits of this call cannot be told at the moment; try again"
        ),
        Code.IDEMPOTENCY_UNAVAILABLE: Rendering(
            503,
            "UNAVAILABLE",
            "api_error",
            "whether this Idempotency-Key was used cannot be told at the moment, so the request was not sent",
        ),
        Code.ISSUER_UNAVAILABLE: Rendering(
            503,
            "UNAVAILABLE",
            "api_error",
            "this token cannot be checked at the moment: its issuer gave no keys",
        ),
        Code.DEADLINE_EXCEEDED: Rendering(
            504, "DEADLINE_EXCEEDED", "api_error", "the request did not finish in time"
        ),
    }
)


class Whom(Protocol):
    """Who has shown a right credential, as the audit log names them."""

    @property
    def id(self) -> str: ...

    @property
    def tenant_id(self) -> str: ...


class GatewayError(Exception):
    """A refusal. `detail` (replaces the table's sentence), `retry_after_seconds`, `standing` and `param` (the key of a request that is
    at fault, where its protocol names one) are public, `private` is not; nor is `who`: whom the audit log tells that it was refused to,
    where nobody was let in yet.
    """

    def __init__(
        self,
        code: Code,
        *,
        detail: str = "",
        private: str = "",
        retry_after_seconds: float | None = None,
        standing: Standing = (),
        param: str = "",
        who: Whom | None = None,
    ) -> None:
        super().__init__(f"{code}: {private or detail}")
        self.code = code
        self.rendering = TABLE[code]
        self.sentence = detail or self.rendering.sentence
        self.private = private
        self.retry_after_seconds = retry_after_seconds
        self.standing = standing
        self.param = param
        self.who = who


def forget_frames(fault: BaseException) -> None:
    """Of an error that is about to be told, and of what led to it. The frames know the error and the error them, so all that the request
    took would stay until the garbage collector comes by.
    """
    found: set[int] = set()
    led_to: list[BaseException | None] = [fault]
    while led_to:
        it = led_to.pop()
        if it is not None and id(it) not in found:
            found.add(id(it))
            led_to += [it.__cause__, it.__context__]
            it.__traceback__ = it.__cause__ = it.__context__ = None  # some are their own cause
