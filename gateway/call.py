"""What travels the request path: a call, its payload, and the reply to it. Every protocol turns its bytes into these."""

from collections.abc import Callable
from typing import Any, Final, Literal, Protocol, get_args

from msgspec import Struct

from gateway.admission.fair_queueing import Class
from gateway.auth.presented import Credential
from gateway.kept.answer import Answer
from gateway.privacy.mask import Screen

# What a call asks of a model. Each is a Cedar action of the same name.
Verb = Literal["infer", "describe"]

# Names of protocols, as the audit log has them: one message each way, and a message of a stream, with any number of replies.
GRPC: Final = "oip-grpc"
GRPC_STREAM: Final = "oip-grpc-stream"


# The protocol of calls that came in through OpenAI's API, and what is asked of a server that speaks it itself.
OPENAI: Final = "openai"
Passed = Literal["chat/completions", "completions", "embeddings"]
PASSED: Final = frozenset(get_args(Passed))

# What is asked of the model's server, by the name that its paths have for it; metadata is the model's own path.
Endpoint = Literal["metadata", "infer", "generate", "generate_stream"] | Passed


# Takes the next piece of a body, without waiting; True says that it wants no more.
Take = Callable[[bytes], bool | None]


class Source(Protocol):
    """A body that is coming in. Its pieces are handed on in the very callback that brings them, without a task to be woken for each."""

    async def pour(self, take: Take) -> None:
        """Hand over each piece in order, once; returns behind the last one, or when `take` wants no more. What `take` raises is raised."""

    def pause(self) -> None:
        """Who takes cannot keep up: no more until `resume`. What has been read already may still come."""

    def resume(self) -> None: ...


class Tap:
    """Who takes a body while it is poured. A fault of theirs is kept for who poured: the parser in whose callback they take would
    blame it on its peer.
    """

    __slots__ = ("_take", "fault", "is_open")

    def __init__(self, take: Take) -> None:
        self._take = take
        self.fault: Exception | None = None
        self.is_open = True

    def give(self, piece: bytes) -> bool:
        """The next piece; whether more is wanted."""
        try:
            self.is_open = not self._take(piece)
        except Exception as fault:  # noqa: BLE001 - whatever it is, `pour` raises it
            self.fault, self.is_open = fault, False
        return self.is_open


class Sequence(Struct, frozen=True):
    """A call's place in a sequence of calls that the model keeps a state for. `id` is the client's; `head` gives the head of the call
    with another one in its stead: what two tenants call by one name must not be one to Triton.
    """

    id: int | str
    starts: bool
    ends: bool
    head: Callable[[int | str], bytes]


class Outgoing(Struct, frozen=True):
    """A judged body, as Triton will be sent it: a head that we encoded ourselves, then `tensor_bytes` of tensors.

    `first` are the tensor bytes that are here already, `rest` is the source of the others, None when there are none.
    `binary` says whether the head's length is told in a header of its own: a JSON body has none.
    """

    head: bytes = b""
    first: bytes | memoryview = b""
    rest: Source | None = None
    tensor_bytes: int = 0
    binary: bool = False
    most_tokens: int = 0  # of prompt and reply, where its protocol says; else it is for `wire.tokens` to say
    sequence: Sequence | None = None  # then `head` is not to be sent, but the one it gives
    restores: "Callable[[Any], Listener] | None" = (
        None  # puts who restores the reply before the door's own downstream
    )

    def listener(self, downstream: "Listener") -> "Listener":
        """Who is to hear the reply."""
        return downstream if self.restores is None else self.restores(downstream)


class Payload(Protocol):
    """The body of a call. Nothing of it is read before the call is admitted."""

    @property
    def declared_bytes(self) -> int | None:
        """The size the client promised; None when it did not say."""

    @property
    def received_bytes(self) -> int:
        """What came in until now."""

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 over all that the client asked, once it is judged, of a call with an Idempotency-Key; else b""."""

    async def judge(self, limit_bytes: int, tenant_id: str, screen: Screen | None) -> Outgoing:
        """Read and judge the head, on this tenant's account; the rest streams. With a screen every text of it is masked, or it is
        refused. Raises GatewayError, NotScreened.
        """


class Naming(Protocol):
    """A payload that names its call's model."""

    async def name(self, call: "InferenceCall", limit_bytes: int, tenant_id: str) -> "InferenceCall":
        """Read the body, on this tenant's account; the call with its model and what is asked of it. Raises GatewayError."""


class InferenceCall(Struct, frozen=True):
    request_id: str
    model: str
    version: str  # "" is the newest
    credential: Credential | None
    address: str  # the peer's IP address
    protocol: str
    payload: Payload
    deadline: float  # seconds on the monotonic clock
    traceparent: str = ""  # a valid one of W3C Trace Context, or ""
    endpoint: Endpoint = "infer"
    encoding: str = ""  # what the reply's body may be compressed with
    naming: Naming | None = None  # its payload, where only that knows the model
    once: str = ""  # its Idempotency-Key; "" without
    service_class: Class = "interactive"  # as it declares it

    @property
    def verb(self) -> Verb:
        return "describe" if self.endpoint == "metadata" else "infer"


class Reply(Source, Protocol):
    """What Triton answered, and the source of its body; ending early is an UpstreamFailed, never a clean end."""

    @property
    def status(self) -> int: ...

    @property
    def length_bytes(self) -> int:
        """-1 when Triton did not say: the reply comes bit by bit, and says when it is whole."""

    @property
    def content_type(self) -> bytes: ...

    @property
    def content_encoding(self) -> bytes:
        """What the body is compressed with, b"" when it is not."""

    @property
    def head_length(self) -> bytes:
        """Inference-Header-Content-Length as Triton gave it, b"" without."""


class Quota(Struct, frozen=True, gc=False):
    """Where a caller stands with one limit: `remaining` of `quota`, full again after `reset_seconds`."""

    name: str
    quota: int
    remaining: int
    window_seconds: int | None = None  # None: not a rate, but how many at once
    reset_seconds: int | None = None


class Upstream(Protocol):
    """Who takes calls to one model on one replica, in the protocol that they came in."""

    async def send(self, call: InferenceCall, body: Outgoing) -> Reply:
        """Send a judged call; give its Reply, which must be released. Raises NotSent if it cannot have run, else UpstreamFailed."""

    def release(self, reply: Any) -> None:
        """The caller is done with this reply of its own, read to its end or not."""


Standing = tuple[Quota, ...]


class Listener(Protocol):
    """Who hears a reply, piece by piece."""

    async def start(self, reply: Reply, standing: Standing) -> None:
        """The reply's status and headers are known, and are on their way unless they are held back. From here on until the end the
        reply is paused while the client reads more slowly than we send.
        """

    def take(self, piece: bytes) -> bool | None:
        """The next piece of the reply; True when no more of it is wanted."""

    async def end(self) -> int:
        """The reply is whole; gives the status that the client was told, which for an error need not be Triton's."""


class Downstream(Listener, Protocol):
    """The client's side of one call. The front end implements it for its protocol."""

    @property
    def started(self) -> bool:
        """The client has been told a status. A front end may hold a reply back for a while, to judge it."""

    @property
    def has_failed(self) -> bool:
        """The reply told of an error behind a status that does not."""

    @property
    def tokens(self) -> int:
        """What was used until now, where a tokenizer of the model's has counted it; else 0."""

    @property
    def guessed_tokens(self) -> int:
        """Prompt and reply until now, by our own count where no tokenizer counts; 0 where the protocol has no texts."""

    @property
    def pieces(self) -> int:
        """So many events of a stream were told."""

    @property
    def told(self) -> Answer | None:
        """What the client will be told of a call with an Idempotency-Key, once `end` gave its status; None where it was told as it came:
        of a stream, and of more than MOST_BYTES.
        """

    async def replay(self, answer: Answer, standing: Standing) -> int:
        """Tell an answer that was told before; gives its status, as HTTP says it."""
