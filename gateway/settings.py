"""Every knob of a process: one frozen tree, each with its unit in its name and its meaning beside it.

`load` is pure. A knob `a.b` is set by the environment variable `GATEWAY_A_B`, or in a file (`config.py`); the command line goes before the
environment, that before the file. What is unknown or makes no sense is refused with a sentence: a misspelt limit must not become no limit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeVar

from tenants import kms, networks

_PREFIX: Final = "GATEWAY_"
CLOSED: Final = -1  # the port of a door that a configuration does not name among those that listen
_ROOT: Final = Path(__file__).resolve().parent.parent


class SettingsError(ValueError):
    """A knob that is unknown or makes no sense; the text names it and what it takes, a line for each."""


def _knob(
    default: object, doc: str, *, least: float = 0, most: float = 2**31 - 1, choices: tuple[str, ...] = ()
) -> Any:
    """A number lies between `least` and `most`; a text or a path has a character at least, and a text is one of the `choices`, if there
    are any; None is a path that is not given."""
    return field(default=default, metadata={"doc": doc, "least": least, "most": most, "choices": choices})


@dataclass(frozen=True, slots=True)
class Http:
    head_bytes: int = _knob(
        32 * 1024, "largest head of a request; a larger one is answered with 431", least=1024
    )
    head_seconds: float = _knob(10.0, "how long a head may take to arrive", least=0.1)
    body_bytes_per_second: int = _knob(1024, "slowest pace of a body, judged over 10 s; slower: 408", least=1)
    json_head_bytes: int = _knob(
        16 * 1024 * 1024,
        "largest JSON part, chunked body, or body with an Idempotency-Key; larger: 413",
        least=1024,
    )
    json_memory_bytes: int = _knob(
        256 * 1024 * 1024, "what all JSON parts under way may take together", least=1024
    )
    request_seconds: float = _knob(300.0, "deadline of a call, from its head to its last byte", least=0.1)
    stream_idle_seconds: float = _knob(60.0, "how long a stream may stand still before it is cut", least=0.1)
    model_config: int = _knob(
        0, "1 shows tenants how their models are configured, paths and parameters left out", most=1
    )
    keep_alive_seconds: float = _knob(75.0, "how long an idle connection is kept", least=1)
    drain_seconds: float = _knob(1.0, "how long an idle connection may ask once more after SIGTERM", least=0)
    grace_seconds: float = _knob(30.0, "how long requests under way may take after SIGTERM", least=0)


@dataclass(frozen=True, slots=True)
class Grpc:
    message_bytes: int = _knob(
        256 * 1024 * 1024,
        "largest message, inflated, whatever a plan allows; larger: RESOURCE_EXHAUSTED",
        least=1024,
    )
    memory_bytes: int = _knob(
        1024 * 1024 * 1024,
        "what messages may take together, a tenant a quarter of it or one message: so much the process grows, "
        "and what comes in between two looks at that, 0.1 s",
        least=1024,
        most=2**50,
    )
    stream_calls: int = _knob(16, "messages of one stream that are served at once", least=1)
    connection_calls: int = _knob(1_000, "calls and streams at once on one connection; more wait", least=1)
    connections: int = _knob(10_000, "connections at once; more are closed", least=1)
    most_calls: int = _knob(10_000, "calls and streams at once; more: RESOURCE_EXHAUSTED", least=1)
    connection_seconds: float = _knob(
        30.0,
        "with several workers, how long a connection is kept: then its client is told to make another one, calls go on, and clients are "
        "spread over the workers anew. So long a worker takes at most to hand over",
        least=1,
        most=86_400,
    )


@dataclass(frozen=True, slots=True)
class Directory:
    poll_seconds: float = _knob(
        1.0, "pause between two looks at what was changed; over 3 s, requests look themselves", least=0.1
    )
    answer_seconds: float = _knob(
        1.0,
        "how long the store may take to answer; longer is out of reach. Two of these are within the 3 s that a look is good for",
        least=0.1,
        most=1.4,
    )
    stale_seconds: float = _knob(60.0, "how long known keys go on while the store is out of reach", least=1)
    unknown_per_second: float = _knob(
        20.0,
        "unknown keys that are looked up for a client network (/24, /64); over it 429, for keys that are not warm alone; 0: no limit, "
        "as must be behind a proxy, where all clients have one address",
        most=1_000_000,
    )
    unknown_burst: int = _knob(100, "of these, how many at once", least=1, most=1_000_000)
    used_seconds: float = _knob(60.0, "pause between two times that the last use of keys is kept", least=0.1)


@dataclass(frozen=True, slots=True)
class Tokens:
    """In this order, each at most the next: fetch, cooldown, refresh, outage; else an issuer is asked again before it could answer, or its
    keys are over before they are fetched anew.
    """

    refresh_seconds: float = _knob(
        300.0, "how old an issuer's keys get before they are fetched anew, beside the requests", least=1
    )
    cooldown_seconds: float = _knob(
        10.0, "after a fetch, how long tokens of keys that are not known cause none of that issuer", least=0.1
    )
    outage_seconds: float = _knob(
        3600.0, "how long known keys serve while their issuer cannot be reached", least=1
    )
    fetch_seconds: float = _knob(5.0, "how long an issuer may take to answer", least=0.1)


@dataclass(frozen=True, slots=True)
class Audit:
    segment_bytes: int = _knob(
        32 * 1024 * 1024, "size of a preallocated segment file", least=1024 * 1024, most=2**30
    )
    stall_seconds: float = _knob(2.0, "a commit that takes longer has failed and closes the door", least=0.1)


@dataclass(frozen=True, slots=True)
class Triton:
    start_seconds: float = _knob(30.0, "how long a server may take until it is ready", least=1)
    most_waiting: int = _knob(
        1000,
        "calls held while a server starts, or until it is their turn; more are refused with 503",
        least=1,
    )


_CLIENTS: Final = ("off", "optional", "required")


@dataclass(frozen=True, slots=True)
class Tls:
    certificate: Path | None = _knob(
        None,
        "PEM file of the certificate that every listener shows, its chain behind it; without one they speak in the clear",
    )
    key: Path | None = _knob(None, "PEM file of its private key, which others must not be able to read")
    client_authorities: Path | None = _knob(
        None, "PEM file of the authorities whose certificates clients may show"
    )
    client_certificates: str = _knob(
        "off",
        "whether the public listeners ask clients for a certificate: off, optional (over gRPC as off), required",
        choices=_CLIENTS,
    )
    operator_certificate: Path | None = _knob(
        None, "PEM file of another certificate for the operator listener"
    )
    operator_key: Path | None = _knob(None, "PEM file of that one's private key")
    operator_client_authorities: Path | None = _knob(
        None, "PEM file of other authorities for the operator listener"
    )
    operator_client_certificates: str = _knob(
        "off",
        "whether the operator listener asks for a certificate: off, optional, required",
        choices=_CLIENTS,
    )


@dataclass(frozen=True, slots=True)
class Upstream:
    private_networks: str = _knob(
        "",
        "networks, with a comma between, where a pass-through model's server may be: in the clear it is called there and on loopback "
        "alone, over HTTPS there and at public addresses",
    )
    authorities: Path | None = _knob(
        None,
        "PEM file of the authorities by which such a server is known over HTTPS, and no others; not given: the system's, as they were "
        "at the first such call",
    )

    @property
    def networks(self) -> tuple[str, ...]:
        return tuple(it.strip() for it in self.private_networks.split(",")) if self.private_networks else ()


@dataclass(frozen=True, slots=True)
class Keys:
    file: Path | None = _knob(
        None,
        "key file that wraps the tenants' data keys; not given: `keys.json` in the state, made if need be",
    )
    cache_seconds: float = _knob(
        300.0, "how long an unwrapped data key serves while what wraps it is out of reach or refuses", least=1
    )
    refresh_seconds: float = _knob(
        60.0, "how old an unwrapped data key gets before it is unwrapped anew, beside the requests", least=1
    )
    retry_seconds: float = _knob(5.0, "pause before a failed call for one key is made again", least=0.1)
    backup_days: int = _knob(
        7,
        "how long back-ups of the wrapped data keys are kept, in days; each record of a destroyed key says it",
        most=3650,
    )
    kms_key: str = _knob(
        "", "ARN of the AWS KMS key that wraps the tenants' data keys, instead of a key file; of no alias"
    )
    kms_endpoint: str = _knob(
        "", "URL where AWS KMS is, for the region of that key; not given: AWS's own endpoint"
    )
    answer_seconds: float = _knob(
        2.0, "how long AWS KMS may take to answer; longer is out of reach", least=0.1, most=60
    )


@dataclass(frozen=True, slots=True)
class Settings:
    host: str = _knob("127.0.0.1", "address of the public listener")
    port: int = _knob(8080, "port of the public listener; 0 picks a free one below 32768", most=65_535)
    grpc_host: str = _knob("127.0.0.1", "address of the gRPC listener")
    grpc_port: int = _knob(8081, "port of the gRPC listener; 0 picks a free one below 32768", most=65_535)
    operator_host: str = _knob("127.0.0.1", "address of the operator listener")
    operator_port: int = _knob(
        8090, "port of the operator listener; 0 picks a free one below 32768", most=65_535
    )
    state: Path = _knob(Path(".state"), "folder for keys, audit log and server logs; made with mode 0700")
    repository: Path = _knob(_ROOT / "infra" / "models", "Triton model repository that `demo` serves")
    policies: Path = _knob(_ROOT / "policies", "folder of the Cedar policies and the demo's plan")
    documents: Path | None = _knob(
        None, "folder or file of the documents that `serve` applies when it starts"
    )
    log_debug: int = _knob(
        0, "1 logs at level DEBUG too: why a credential was refused, in words that hold nothing of it", most=1
    )
    http: Http = field(default_factory=Http)
    grpc: Grpc = field(default_factory=Grpc)
    directory: Directory = field(default_factory=Directory)
    tokens: Tokens = field(default_factory=Tokens)
    audit: Audit = field(default_factory=Audit)
    triton: Triton = field(default_factory=Triton)
    tls: Tls = field(default_factory=Tls)
    upstream: Upstream = field(default_factory=Upstream)
    keys: Keys = field(default_factory=Keys)


_Tree = TypeVar("_Tree")


def load(environ: Mapping[str, str], file: Settings | None = None, **given: Any) -> Settings:
    """Settings by the command line (`given`, None for not given), else the environment, else a file. Raises SettingsError."""
    known = {name for name, _ in knobs(Settings())}
    for variable in environ:
        if variable.startswith(_PREFIX) and variable not in known:
            raise SettingsError(f"{variable} is not a setting; known are {', '.join(sorted(known))}")
    settings = _filled(file or Settings(), _PREFIX, environ)
    _check_order(settings.tokens)
    _check_whole(settings.tls)
    _check_keys(settings.keys)
    _check_networks(settings.upstream)
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


def _check_order(tokens: Tokens) -> None:
    """Raises SettingsError."""
    names = ("fetch_seconds", "cooldown_seconds", "refresh_seconds", "outage_seconds")
    for less, more in pairwise(names):
        if getattr(tokens, less) > getattr(tokens, more):
            said = [f"{_PREFIX}TOKENS_{name.upper()} ({getattr(tokens, name):g})" for name in (less, more)]
            raise SettingsError(
                f"{said[0]} must be at most {said[1]}; in a file: tokens.{less}, tokens.{more}"
            )


def _check_whole(tls: Tls) -> None:
    """What belongs together is there together. Raises SettingsError."""
    pairs = (
        ("certificate", "key"),
        ("key", "certificate"),
        ("operator_certificate", "operator_key"),
        ("operator_key", "operator_certificate"),
        ("operator_certificate", "certificate"),
    )
    needs = [(name, needed) for name, needed in pairs if getattr(tls, name)]
    for name in ("client_certificates", "operator_client_certificates"):
        if getattr(tls, name) != "off":
            needs += [(name, "certificate")]
            authorities = f"{name.removesuffix('certificates')}authorities"
            needs += [(name, authorities)] if not tls.client_authorities else []
    for name, needed in needs:
        if getattr(tls, needed) is None:
            said = [f"{_PREFIX}TLS_{it.upper()}" for it in (name, needed)]
            raise SettingsError(f"{said[0]} needs {said[1]}; in a file: tls.{name}, tls.{needed}")


def _check_keys(keys: Keys) -> None:
    """Raises SettingsError."""
    key, endpoint = f"{_PREFIX}KEYS_KMS_KEY", f"{_PREFIX}KEYS_KMS_ENDPOINT"
    if keys.kms_key and kms.region(keys.kms_key) is None:
        raise SettingsError(f"{key} must be {kms.FORM}; in a file: keys.kms_key")
    if keys.kms_key and keys.file is not None:
        raise SettingsError(
            f"{key} and {_PREFIX}KEYS_FILE are both set, and one of the two wraps; in a file: keys.kms_key, keys.file"
        )
    if keys.kms_endpoint and not keys.kms_key:
        raise SettingsError(f"{endpoint} needs {key}; in a file: keys.kms_endpoint, keys.kms_key")
    if keys.kms_endpoint and not kms.is_endpoint(keys.kms_endpoint):
        raise SettingsError(
            f"{endpoint} must be a URL as https://kms.example (http on loopback alone), with no path; in a file: keys.kms_endpoint"
        )


def _check_networks(upstream: Upstream) -> None:
    """Raises SettingsError."""
    for fault in networks.faults(upstream.networks, "upstream.private_networks") if upstream.networks else ():
        raise SettingsError(f"{_PREFIX}UPSTREAM_PRIVATE_NETWORKS: {fault.path} {fault.reason}")


def knobs(tree: object, prefix: str = _PREFIX) -> list[tuple[str, str]]:
    """Every knob's variable and meaning, in order; for the documentation and its test."""
    found: list[tuple[str, str]] = []
    for knob in fields(tree):  # type: ignore[arg-type]
        value, name = getattr(tree, knob.name), prefix + knob.name.upper()
        if is_dataclass(value):
            found += knobs(value, f"{name}_")
        else:
            found.append(
                (
                    name,
                    knob.metadata["doc"]
                    if value == "" or isinstance(value, Path | None)
                    else f"{knob.metadata['doc']} ({value})",
                )
            )
    return found


def _filled(tree: _Tree, prefix: str, environ: Mapping[str, str]) -> _Tree:
    changes: dict[str, Any] = {}
    for knob in fields(tree):  # type: ignore[arg-type]
        value, name = getattr(tree, knob.name), prefix + knob.name.upper()
        if is_dataclass(value):
            changes[knob.name] = _filled(value, f"{name}_", environ)
        elif name in environ:
            changes[knob.name] = _parsed(name, environ[name], value, knob.metadata)
    return replace(tree, **changes)  # type: ignore[type-var]


def _parsed(name: str, text: str, default: object, metadata: Mapping[str, Any]) -> object:
    if isinstance(default, str | Path | None):
        if not text:
            raise SettingsError(f"{name} is empty")
        if not chosen(text, metadata):
            raise SettingsError(f"{name} must be one of {', '.join(metadata['choices'])}, not {text!r}")
        return text if isinstance(default, str) else Path(text)
    kind = type(default)
    try:
        number = float(text) if kind is float else int(text)
    except ValueError as fault:
        raise SettingsError(f"{name} must be of type {kind.__name__}, not {text!r}") from fault
    if not within(number, metadata):
        raise SettingsError(f"{name} must be {bounds(metadata)}, not {text!r}")
    return number


def within(number: float, metadata: Mapping[str, Any]) -> bool:
    """Whether a knob takes this number; NaN is never one."""
    return bool(metadata["least"] <= number <= metadata["most"])


def chosen(text: str, metadata: Mapping[str, Any]) -> bool:
    """Whether a knob takes this text."""
    return not metadata["choices"] or text in metadata["choices"]


def bounds(metadata: Mapping[str, Any]) -> str:
    return f"between {metadata['least']:g} and {metadata['most']:g}"
