"""Every metric, span and attribute name. The README's tables are these, and a test keeps them so.

Names follow OpenTelemetry's semantic conventions where they have one. No attribute has more values than an operator's own documents
give it: a tenant is never one, as there may be any number; what a tenant used is in the audit log.
"""

# long because it is one table

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "up-down counter", "gauge", "histogram"]
Across = Literal["sum", "least", "most"]

# Finer at the low end than the convention advises: a warm call takes a millisecond.
CALL_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
START_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0)


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One row. `bounds` are a histogram's: a bucket counts what is above the bound before it and at most its own. `across`: what several
    processes amount to.
    """

    name: str
    kind: Kind
    unit: str
    attributes: tuple[str, ...]
    meaning: str
    bounds: tuple[float, ...] = ()
    across: Across = "sum"


MODEL, VERB, FLEET, PHASE = "gateway.model", "gateway.verb", "gateway.fleet", "gateway.phase"
POLICY_VERSION, LISTENER = "gateway.policies.version", "gateway.listener"
REASON = "gateway.reason"
CLAIM_RESULT = "gateway.idempotency.result"
STATUS, ERROR, CPU_MODE = "http.response.status_code", "error.type", "cpu.mode"
TENANT, REQUEST_ID, REPLICA = "gateway.tenant", "gateway.request_id", "gateway.replica"
ADDRESS, PORT = "server.address", "server.port"

STANDING = "gateway.standing"

# Calls
CALLS = Metric(
    "http.server.request.duration",
    "histogram",
    "s",
    (MODEL, VERB, STATUS),
    "from a call's head to its end; the count is the number of calls; `gateway.model` is empty where no known model was asked",
    CALL_SECONDS,
)
IN_FLIGHT = Metric(
    "http.server.active_requests", "up-down counter", "{request}", (), "admitted calls that have not ended"
)
UPSTREAM = Metric(
    "gateway.upstream.duration",
    "histogram",
    "s",
    (MODEL,),
    "from sending a call to Triton to the end of its reply, of calls that got one",
    CALL_SECONDS,
)
RECEIVED = Metric("gateway.request.body", "counter", "By", (MODEL,), "request bodies that came in")
SENT = Metric("gateway.reply.body", "counter", "By", (MODEL,), "reply bodies that came from Triton")
ERRORS = Metric(
    "gateway.errors",
    "counter",
    "{call}",
    (ERROR,),
    "refused and failed calls, by the code of the table of errors; also those that never became a call",
)
JSON_MEMORY = Metric(
    "gateway.json_memory.usage", "up-down counter", "By", (), "what the JSON of calls under way takes"
)
MESSAGE_MEMORY = Metric(
    "gateway.message_memory.usage",
    "up-down counter",
    "By",
    (),
    "what the gRPC messages of calls under way take",
)
# Whom to trust, and what to prove
UNDECIDED = Metric(
    "gateway.authz.undecided",
    "counter",
    "{decision}",
    (),
    "decisions that Cedar could not make; each was a denial",
)
POLICIES = Metric(
    "gateway.policies.in_force",
    "gauge",
    "",
    (POLICY_VERSION,),
    "by their version's first 12 digits: 1 while the files are the policies in force, 0 while they are others, refused or just written",
    across="least",
)
POLICIES_REPLACED = Metric(
    "gateway.policies.replaced",
    "counter",
    "{time}",
    (),
    "times that changed files became the policies in force",
)
POLICIES_REFUSED = Metric(
    "gateway.policies.refused",
    "counter",
    "{time}",
    (),
    "times that changed files were refused, and what was in force stayed",
)
DIRECTORY_AGE = Metric(
    "gateway.directory.age",
    "gauge",
    "s",
    (),
    "how long ago the directory last confirmed what is known",
    across="most",
)
DIRECTORY_SEQUENCE = Metric(
    "gateway.directory.sequence",
    "gauge",
    "",
    (),
    "number of the directory's last change that is known here; gateways of one directory should not differ for long",
    across="least",
)
DIRECTORY_EMPTIED = Metric(
    "gateway.directory.emptied",
    "counter",
    "{time}",
    (),
    "times that all known keys were dropped, as nobody could tell what was changed",
)
MEMBERS = Metric(
    "gateway.members",
    "up-down counter",
    "{member}",
    (STANDING,),
    "processes of this state by how they stand with this one: live, silent, dead; of the dead those that are not forgotten yet",
    across="most",
)
LEADS = Metric(
    "gateway.leads", "up-down counter", "{process}", (), "1 while this process leads; of all of them one does"
)
TERM = Metric(
    "gateway.leadership.term",
    "gauge",
    "{term}",
    (),
    "the highest term of a leader that was seen; one more with each change",
    across="most",
)
LOOK_UPS_REFUSED = Metric(
    "gateway.directory.lookups_refused",
    "counter",
    "{call}",
    (),
    "calls refused as their network had too many unknown keys looked up",
)
TOKENS = Metric(
    "gateway.tokens.known", "up-down counter", "{token}", (), "verified tokens that are known by their digest"
)
TOKENS_DROPPED = Metric(
    "gateway.tokens.dropped",
    "counter",
    "{token}",
    (),
    "of these, those that were forgotten before their end: for room, or as something that they were judged by changed",
)
KEY_FETCHES = Metric(
    "gateway.issuer_keys.fetches", "counter", "{fetch}", (), "times that an issuer's keys were fetched"
)
KEY_FAILURES = Metric(
    "gateway.issuer_keys.failures",
    "counter",
    "{fetch}",
    (),
    "of these, those that brought no keys that may be used",
)
KEYS_REFUSED = Metric(
    "gateway.issuer_keys.refused",
    "counter",
    "{call}",
    (),
    "calls that were answered without a fetch, as their issuer's keys were fetched a moment before",
)
BREAK_GLASS = Metric(
    "gateway.break_glass.uses",
    "counter",
    "{request}",
    (),
    "requests of the control API with a break-glass key, also those that were refused; wake somebody at the first",
)
CERTIFICATE_EXPIRES = Metric(
    "gateway.tls.certificate.expires",
    "gauge",
    "s",
    (LISTENER,),
    "how long the certificate that new handshakes are shown is still valid; below 0 it is over. Wake somebody at two days",
    across="least",
)
CERTIFICATES_REPLACED = Metric(
    "gateway.tls.certificate.replaced",
    "counter",
    "{time}",
    (LISTENER,),
    "times that changed files became the certificate that is shown",
)
CERTIFICATES_REFUSED = Metric(
    "gateway.tls.certificate.refused",
    "counter",
    "{time}",
    (LISTENER,),
    "times that changed files were refused, and what was shown stayed",
)
AUDIT_OPEN = Metric(
    "gateway.audit.open",
    "gauge",
    "",
    (),
    "1 while the audit log takes records, 0 while nothing is served",
    across="least",
)
AUDIT_RECORDS = Metric("gateway.audit.records", "counter", "{record}", (), "durable audit records")
AUDIT_COMMITS = Metric("gateway.audit.commits", "counter", "{commit}", (), "durable commits of the audit log")
AUDIT_BYTES = Metric("gateway.audit.written", "counter", "By", (), "what these commits wrote")
AUDIT_FAILURES = Metric(
    "gateway.audit.failures", "counter", "{failure}", (), "commits that failed or took too long"
)
AUDIT_REFUSED = Metric(
    "gateway.audit.refused", "counter", "{call}", (), "calls refused as the audit log took none"
)
AUDIT_UNKNOWN = Metric(
    "gateway.audit.unknown",
    "counter",
    "{call}",
    (),
    "intents without a durable outcome: of dead processes, and of failed commits",
)
AUDIT_WITHHELD = Metric(
    "gateway.audit.withheld",
    "counter",
    "{record}",
    (),
    "denials, counts of them, and outcomes that were stored without a body as no key was there to seal it",
)
AUDIT_FORGOTTEN = Metric(
    "gateway.audit.bodies.forgotten",
    "counter",
    "{record}",
    (),
    "audit records whose body was older than its tenant's privacy keeps it, and is gone",
)
AUDIT_REPLACED = Metric(
    "gateway.audit.segments.replaced",
    "counter",
    "{segment}",
    (),
    "times that a closed segment was written anew, without what was over in it",
)
USAGE_FOLDED = Metric(
    "gateway.usage.folded",
    "counter",
    "{call}",
    (),
    "calls of the audit log that this process added to the sums of usage",
)
KEPT_EXPIRED = Metric(
    "gateway.kept.expired",
    "counter",
    "{object}",
    (),
    "kept requests and replies that were over, and are gone",
)
CAPTURES_STORED = Metric(
    "gateway.captures.stored", "counter", "{capture}", (), "captured calls that are kept, sealed"
)
CAPTURES_LOST = Metric(
    "gateway.captures.lost",
    "counter",
    "{capture}",
    (REASON,),
    "captured calls that are not: no room in memory (`memory`), no data key (`key`), not put (`store`), or the process ended (`stopped`)",
)
CAPTURE_MEMORY = Metric(
    "gateway.capture_memory.usage", "up-down counter", "By", (), "what captures that are not stored yet take"
)
CLAIMS = Metric(
    "gateway.idempotency.claims",
    "counter",
    "{call}",
    (CLAIM_RESULT,),
    "calls with an Idempotency-Key that came to be claimed: `claimed` and sent, `replayed`, refused as the first is `under_way`, its "
    "answer `not_kept` or the key `reused`, or as it was `unavailable` whether there was one",
)
ANSWERS_LOST = Metric(
    "gateway.idempotency.answers_lost",
    "counter",
    "{answer}",
    (),
    "answers that should have been kept for an Idempotency-Key and could not be",
)
CLAIMS_SWEPT = Metric(
    "gateway.idempotency.swept",
    "counter",
    "{claim}",
    (),
    "claims of an Idempotency-Key that are over, and are gone",
)
# Scaling
HELD = Metric(
    "gateway.held_calls", "up-down counter", "{call}", (MODEL,), "calls held until a replica can take them"
)
QUEUE_FULL = Metric(
    "gateway.queue.full", "counter", "{call}", (MODEL,), "calls refused as too many waited for the model"
)
QUEUE_LATE = Metric(
    "gateway.queue.late",
    "counter",
    "{call}",
    (MODEL,),
    "calls refused as they could not end before their deadline",
)
REPLICAS = Metric(
    "gateway.replicas", "up-down counter", "{replica}", (FLEET, PHASE), "Triton servers, by what they do"
)
RESIDENT = Metric(
    "gateway.resident_models",
    "up-down counter",
    "{model}",
    (MODEL, PHASE),
    "places of the model on replicas, by what happens there",
)
COLD_START = Metric(
    "gateway.cold_start.duration",
    "histogram",
    "s",
    (PHASE,),
    "of a cold start: how long calls were held (queue), and what a server's start (boot), a load and its first inference took",
    START_SECONDS,
)
STARTS = Metric("gateway.replica.starts", "counter", "{start}", (FLEET,), "starts of Triton servers")
START_FAILURES = Metric(
    "gateway.replica.start_failures",
    "counter",
    "{start}",
    (FLEET,),
    "starts that did not lead to a server that answers",
)
CRASHES = Metric(
    "gateway.replica.crashes", "counter", "{crash}", (FLEET,), "Triton servers that ended by themselves"
)
STOPS = Metric(
    "gateway.replica.stops", "counter", "{stop}", (FLEET,), "Triton servers that the gateway ended"
)
LOADS = Metric("gateway.model.loads", "counter", "{load}", (MODEL,), "loads of the model")
LOAD_FAILURES = Metric(
    "gateway.model.load_failures",
    "counter",
    "{load}",
    (MODEL,),
    "loads that Triton refused or did not finish",
)
EVICTIONS = Metric(
    "gateway.model.evictions",
    "counter",
    "{unload}",
    (MODEL,),
    "unloads of a model still in use: for room, for fewer replicas, or as its document changed",
)
IDLE_UNLOADS = Metric(
    "gateway.model.idle_unloads", "counter", "{unload}", (MODEL,), "unloads as nobody called the model"
)
CANARY_FAILURES = Metric(
    "gateway.model.canary_failures",
    "counter",
    "{inference}",
    (MODEL,),
    "checks that found the model not working",
)
BREAKER_OPENS = Metric(
    "gateway.breaker.opens",
    "counter",
    "{opening}",
    (MODEL,),
    "places of the model that were taken out of rotation",
)
WORKERS_SILENT = Metric(
    "gateway.workers.silent",
    "counter",
    "{answer}",
    (),
    "times that a worker did not tell the side its figures within a second; meanwhile it stands for what it last said that it had counted",
)
# The process
CPU = Metric("process.cpu.time", "counter", "s", (CPU_MODE,), "processor time of the gateway's own process")
MEMORY = Metric("process.memory.usage", "up-down counter", "By", (), "resident memory of that process")
FILES = Metric(
    "process.unix.file_descriptor.count", "up-down counter", "{file_descriptor}", (), "its open files"
)
UPTIME = Metric(
    "process.uptime",
    "gauge",
    "s",
    (),
    "how long it serves",
    across="least",
)

TABLE = (
    *(CALLS, IN_FLIGHT, UPSTREAM, RECEIVED, SENT, ERRORS),
    *(JSON_MEMORY, MESSAGE_MEMORY),
    *(UNDECIDED, POLICIES, POLICIES_REPLACED, POLICIES_REFUSED),
    *(DIRECTORY_AGE, DIRECTORY_SEQUENCE, DIRECTORY_EMPTIED, LOOK_UPS_REFUSED, BREAK_GLASS),
    *(MEMBERS, LEADS, TERM),
    *(TOKENS, TOKENS_DROPPED, KEY_FETCHES, KEY_FAILURES, KEYS_REFUSED),
    *(CERTIFICATE_EXPIRES, CERTIFICATES_REPLACED, CERTIFICATES_REFUSED),
    *(AUDIT_OPEN, AUDIT_RECORDS, AUDIT_COMMITS, AUDIT_BYTES),
    *(AUDIT_FAILURES, AUDIT_REFUSED, AUDIT_UNKNOWN, AUDIT_WITHHELD),
    *(AUDIT_FORGOTTEN, AUDIT_REPLACED, USAGE_FOLDED, KEPT_EXPIRED),
    *(CAPTURES_STORED, CAPTURES_LOST, CAPTURE_MEMORY),
    *(CLAIMS, ANSWERS_LOST, CLAIMS_SWEPT),
    *(HELD, QUEUE_FULL, QUEUE_LATE, REPLICAS, RESIDENT, COLD_START, STARTS, START_FAILURES, CRASHES, STOPS),
    *(LOADS, LOAD_FAILURES, EVICTIONS, IDLE_UNLOADS, CANARY_FAILURES, BREAKER_OPENS),
    *(WORKERS_SILENT, CPU, MEMORY, FILES, UPTIME),
)


@dataclass(frozen=True, slots=True)
class SpanKind:
    """One row of the spans."""

    name: str
    attributes: tuple[str, ...]
    meaning: str


CALL_SPAN = SpanKind(
    "call", (VERB, MODEL, REQUEST_ID, TENANT, STATUS, ERROR), "a call, from its head to its end (server)"
)
FORWARD_SPAN = SpanKind(
    "forward",
    (MODEL, REPLICA, ADDRESS, PORT),
    "one try of the call on a replica, its parent is `call` (client)",
)
SPANS = (CALL_SPAN, FORWARD_SPAN)
