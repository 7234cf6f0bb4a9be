"""ONE table: every path of the HTTP doors and every RPC, and which of them need no credential. Routing is made from it.

A new one is a row here, and one of `tests/e2e/matrix.py`, which says what it answers to each kind of credential. What is below
/control/v1 and /audit/v1 has a table of its own, `tenants.api.routes`.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from gateway.triton.grpc_client import SERVICE

HEALTH: Final = "grpc.health.v1.Health"
Method = Literal["GET", "POST"]


@dataclass(frozen=True, slots=True)
class Route:
    """What can be asked over HTTP. In its path {model} and {version} stand for names. `is_open`: nobody needs a credential for it."""

    method: Method
    path: str
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Rpc:
    """What can be called over gRPC."""

    service: str
    name: str
    is_open: bool = False

    @property
    def path(self) -> str:
        """Its full name."""
        return f"/{self.service}/{self.name}"


# What can be asked of a model, and with which method.
OF_MODEL: Final[MappingProxyType[str, Method]] = MappingProxyType(
    {
        "/infer": "POST",  # first, as most paths are such
        "": "GET",
        "/ready": "GET",
        "/stats": "GET",
        "/config": "GET",
        "/generate": "POST",
        "/generate_stream": "POST",
    }
)
_MODEL: Final = "/v2/models/{model}"
MODELS: Final = tuple(
    Route(method, f"{place}{asked}")
    for place in (_MODEL, f"{_MODEL}/versions/{{version}}")
    for asked, method in OF_MODEL.items()
)
"""`oip_rest` answers them."""

OTHERS: Final = (
    Route("GET", "/healthz", is_open=True),
    Route("GET", "/readyz", is_open=True),
    Route("GET", "/v2/health/live", is_open=True),
    Route("GET", "/v2/health/ready", is_open=True),
    Route("GET", "/v2"),
)
"""`http` answers them."""

OPENAI: Final = (
    Route("POST", "/v1/chat/completions"),
    Route("POST", "/v1/completions"),
    Route("POST", "/v1/embeddings"),
    Route("GET", "/v1/models"),
    Route("GET", "/v1/models/{model}"),
)
PUBLIC: Final = (*MODELS, *OTHERS, *OPENAI)

OPERATOR: Final = (
    Route("GET", "/metrics", is_open=True),
    Route("GET", "/healthz", is_open=True),
    Route("GET", "/readyz", is_open=True),
)

INFERENCE: Final = (
    Rpc(SERVICE, "ServerLive", is_open=True),
    Rpc(SERVICE, "ServerReady", is_open=True),
    Rpc(SERVICE, "ServerMetadata"),
    Rpc(SERVICE, "ModelReady"),
    Rpc(SERVICE, "ModelMetadata"),
    Rpc(SERVICE, "ModelInfer"),
    Rpc(SERVICE, "ModelStreamInfer"),
    Rpc(SERVICE, "ModelConfig"),
    Rpc(SERVICE, "ModelStatistics"),
)
CHECKS: Final = (Rpc(HEALTH, "Check", is_open=True), Rpc(HEALTH, "Watch", is_open=True))
RPCS: Final = (*INFERENCE, *CHECKS)
