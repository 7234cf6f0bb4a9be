"""What travels the request path: a call, its payload, and the reply to it. Every protocol turns its bytes into these."""

from collections.abc import AsyncIterator
from typing import Literal, Protocol

from msgspec import Struct

from tenants.keys import Secret

# What a call asks of a model. Each is a Cedar action of the same name.
Verb = Literal["infer", "describe"]


class Outgoing(Struct, frozen=True):
    """A judged body, as Triton will be sent it: a head that we encoded ourselves, then `tensor_bytes` of tensors.

    `first` are the tensor bytes that are here already, `rest` gives the others as they come, None when there are none.
    `binary` says whether the head's length is told in a header of its own: a JSON body has none.
    """

    head: bytes = b""
    first: bytes | memoryview = b""
    rest: AsyncIterator[bytes] | None = None
    tensor_bytes: int = 0
    binary: bool = False


class Payload(Protocol):
    """The body of a call. Nothing of it is read before the call is admitted."""

    @property
    def declared_bytes(self) -> int | None:
        """The size the client promised; None when it did not say."""

    @property
    def received_bytes(self) -> int:
        """What came in until now."""

    async def judge(self, limit_bytes: int, tenant_id: str) -> Outgoing:
        """Read and judge the head, on this tenant's account; the rest streams. Raises GatewayError."""


class InferenceCall(Struct, frozen=True):
    request_id: str
    verb: Verb
    model: str
    version: str  # "" is the newest
    credential: Secret | None
    address: str  # the peer's IP address
    protocol: str
    payload: Payload
    deadline: float  # seconds on the monotonic clock
    traceparent: str = ""  # a valid one of W3C Trace Context, or ""


class Reply(Protocol):
    """What Triton answered. Its chunks are read once, in order; ending early is an UpstreamFailed, never a clean end."""

    @property
    def status(self) -> int: ...

    @property
    def length_bytes(self) -> int: ...

    @property
    def content_type(self) -> bytes: ...

    @property
    def head_length(self) -> bytes:
        """Inference-Header-Content-Length as Triton gave it, b"" without."""

    def chunks(self) -> AsyncIterator[bytes]: ...


class Quota(Struct, frozen=True, gc=False):
    """Where a caller stands with one limit: `remaining` of `quota`, full again after `reset_seconds`."""

    name: str
    quota: int
    remaining: int
    window_seconds: int | None = None  # None: not a rate, but how many at once
    reset_seconds: int | None = None


Standing = tuple[Quota, ...]


class Downstream(Protocol):
    """The client's side of one call. The front end implements it for its protocol."""

    @property
    def started(self) -> bool:
        """The client has been told a status. A front end may hold a reply back for a while, to judge it."""

    async def start(self, reply: Reply, standing: Standing) -> None:
        """The reply's status and headers are known, and are on their way unless they are held back."""

    async def send(self, chunk: bytes) -> None:
        """The chunk is handed over; waits while the client reads more slowly than we send."""

    async def end(self) -> int:
        """The reply is whole; gives the status that the client was told, which for an error need not be Triton's."""
