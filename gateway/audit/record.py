"""What an audit record says, as bytes. Pure.

A record is an entry, kept for ever, and a body, which may be forgotten later. Both are JSON, but a body may be sealed: then it is what
`gateway.envelope.series` makes of that JSON, and the entry names the data key. The entry holds the SHA-256 of the body's bytes as stored.

Compatibility: version 1 bytes never change. A field may be added whose default is left out and means what its
absence meant; no field is renamed, retyped or used again. Anything else is version 2, which a version 1
reader refuses. Hashes are over bytes as stored: an entry is never decoded and encoded again.
"""

import hashlib
from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec
from msgspec.structs import replace

Kind = Literal["segment", "probe", "intent", "outcome", "denial", "denials"]
Status = Literal["done", "failed", "refused", "partial", "cancelled", "unknown"]

_encode = msgspec.json.Encoder().encode


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Version 1 (rule above). Ids are pseudonymous, `interval_us` is (start, end), the counts are priced. `sealed_with` is the id of the
    data key that the body is sealed with; without one it is in the clear, or empty: withheld. `status` is the outcome's, so that usage can
    be counted without a key; None: only its body says it, as in outcomes of the first programs, or it is no outcome.
    """

    v: Literal[1]
    kind: Kind
    record: str
    request: str = ""
    at_us: int
    tenant: str | None = None
    key: str | None = None
    model: str | None = None
    model_version: str | None = None
    replica: str | None = None
    interval_us: tuple[int, int] | None = None
    weight: int = 0
    requests: int = 0
    bytes: int = 0
    tokens: int = 0
    compute_us: int = 0
    price_version: int | None = None
    sealed_with: str | None = None
    status: Status | None = None
    body_sha256: str

    @property
    def is_priced(self) -> bool:
        return bool(self.weight or self.requests or self.bytes or self.tokens or self.compute_us)


# Bodies follow the version of their entry, and the same rule.


class Previous(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Where a closed segment ends. What lies behind that in a poisoned one never happened; of a dead process's
    one, `torn_bytes` were cut.
    """

    segment: str
    commits: int
    chain: str
    poisoned: bool = False
    torn_bytes: int = 0


class Owed(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An intent whose outcome is still to come."""

    request: str
    tenant: str
    key: str
    model: str
    model_version: str


class SegmentBody(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The first record of a segment: which segments it follows, and the intents they left open to it."""

    previous: tuple[Previous, ...] = ()
    owed: tuple[Owed, ...] = ()


class ProbeBody(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Marks where the door opened."""


class IntentBody(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Who wants what from where, the policies that let them, and where their limits stood."""

    tenant_name: str
    key_name: str
    address: str
    action: str
    policies: tuple[str, ...] = ()
    quota: Mapping[str, int | float | str] = {}
    protocol: str
    certificate: str | None = None
    """The SHA-256, in hex, of the client certificate that was the credential; None: a key or token was."""


class OutcomeBody(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How it ended. `durations` in microseconds; `segment` held the intent when it became unknown."""

    status: Status
    http_status: int | None = None
    reason: str | None = None
    durations: Mapping[str, int] = {}
    request_bytes: int = 0
    reply_bytes: int = 0
    segment: str | None = None


class DenialBody(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    reason: str
    status: int
    address: str
    policies: tuple[str, ...] = ()


class DenialsBody(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How many per reason in [from_us, until_us), of one principal or one network."""

    reasons: Mapping[str, int]
    network: str | None = None
    from_us: int
    until_us: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a call ended. `interval_us`: (start, end) on the replica; `durations`: microseconds per step."""

    status: Status
    http_status: int | None = None
    reason: str | None = None
    replica: str | None = None
    model_version: str | None = None
    interval_us: tuple[int, int] | None = None
    weight: int = 0
    requests: int = 0
    bytes: int = 0
    tokens: int = 0
    compute_us: int = 0
    durations: Mapping[str, int] = {}
    request_bytes: int = 0
    reply_bytes: int = 0


class Denial(msgspec.Struct, frozen=True, kw_only=True):
    """A refusal before any intent. Without a tenant nobody was recognised: it is only counted."""

    request: str
    reason: str
    status: int
    address: str
    tenant: str | None = None
    key: str | None = None
    model: str | None = None
    policies: tuple[str, ...] = ()


class Record(msgspec.Struct, frozen=True, gc=False):
    entry: bytes
    body: bytes


class Sealer(Protocol):
    """What a body is stored by."""

    @property
    def data_key(self) -> str | None:
        """The id of the key, which the entry names."""

    def seal(self, record: str, body: bytes) -> bytes:
        """The body of this record, as it is stored."""


class Withheld:
    """Stores nothing of a body that can be sealed now with no key: fails closed."""

    data_key = None

    def seal(self, record: str, body: bytes) -> bytes:
        return b""


def intent_record(
    record: str, owed: Owed, body: IntentBody, *, at_us: int, sealer: Sealer | None = None
) -> Record:
    """`sealer`, here and below: None leaves the body in the clear."""
    stored = _encode(body)
    if sealer is not None:
        stored = sealer.seal(record, stored)
    entry = Entry(
        v=1,
        kind="intent",
        record=record,
        request=owed.request,
        at_us=at_us,
        tenant=owed.tenant,
        key=owed.key,
        model=owed.model,
        model_version=owed.model_version,
        sealed_with=sealer.data_key if sealer is not None else None,
        body_sha256=digest(stored),
    )
    return Record(_encode(entry), stored)


def outcome_record(
    record: str,
    owed: Owed,
    outcome: Outcome,
    *,
    at_us: int,
    segment: str | None = None,
    sealer: Sealer | None = None,
) -> Record:
    """`segment`: where the intent was when its outcome became unknown."""
    stored = _encode(
        OutcomeBody(
            status=outcome.status,
            http_status=outcome.http_status,
            reason=outcome.reason,
            durations=outcome.durations,
            request_bytes=outcome.request_bytes,
            reply_bytes=outcome.reply_bytes,
            segment=segment,
        )
    )
    if sealer is not None:
        stored = sealer.seal(record, stored)
    entry = Entry(
        v=1,
        kind="outcome",
        record=record,
        request=owed.request,
        at_us=at_us,
        tenant=owed.tenant,
        key=owed.key,
        model=owed.model,
        model_version=outcome.model_version or owed.model_version,
        replica=outcome.replica,
        interval_us=outcome.interval_us,
        weight=outcome.weight,
        requests=outcome.requests,
        bytes=outcome.bytes,
        body_sha256=digest(stored),
    )
    # Apart: CPython makes a call with more than 15 keywords four times slower.
    entry = replace(entry, status=outcome.status, sealed_with=sealer.data_key if sealer is not None else None)
    if outcome.tokens or outcome.compute_us:
        entry = replace(entry, tokens=outcome.tokens, compute_us=outcome.compute_us)
    return Record(_encode(entry), stored)


def denial_record(record: str, denial: Denial, *, at_us: int, sealer: Sealer | None = None) -> Record:
    stored = _encode(
        DenialBody(
            reason=denial.reason, status=denial.status, address=denial.address, policies=denial.policies
        )
    )
    if sealer is not None:
        stored = sealer.seal(record, stored)
    entry = Entry(
        v=1,
        kind="denial",
        record=record,
        request=denial.request,
        at_us=at_us,
        tenant=denial.tenant,
        key=denial.key,
        model=denial.model,
        sealed_with=sealer.data_key if sealer is not None else None,
        body_sha256=digest(stored),
    )
    return Record(_encode(entry), stored)


def own_record(
    record: str,
    kind: Kind,
    body: SegmentBody | ProbeBody | DenialsBody,
    *,
    at_us: int,
    tenant: str | None = None,
    key: str | None = None,
    sealer: Sealer | None = None,
) -> Record:
    """What the ledger says by itself, about no request."""
    stored = _encode(body)
    if sealer is not None:
        stored = sealer.seal(record, stored)
    entry = Entry(
        v=1,
        kind=kind,
        record=record,
        at_us=at_us,
        tenant=tenant,
        key=key,
        sealed_with=sealer.data_key if sealer is not None else None,
        body_sha256=digest(stored),
    )
    return Record(_encode(entry), stored)


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
