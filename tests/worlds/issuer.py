"""An issuer of tokens in this process: its keys, its key set, and what it signs. It signs what it is told, also what no issuer should."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from gateway.auth.jose import KeySet
from gateway.auth.key_sets import KeySets, Unreachable
from gateway.auth.known import Known
from gateway.auth.tokens import keys_of_issuers
from gateway.settings import Tokens

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

AUDIENCE: Final = "gateway"
NOW_S: Final = 1_700_000_000
"""The second that tests take for now unless they say otherwise."""


@cache
def private_key(algorithm: str, name: str) -> Private:
    """One a name; RSA takes a tenth of a second."""
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 2048)


@dataclass(slots=True)
class IssuerWorld:
    """`keys` are the published ones, by kid; the last one signs. What was read of it is counted."""

    url: str = "https://login.acme.example"
    audience: str = AUDIENCE
    keys: dict[str, tuple[str, Private]] = field(default_factory=dict)
    is_down: bool = False
    reads: int = 0

    def __post_init__(self) -> None:
        if not self.keys:
            self.rotate("first")

    def rotate(self, kid: str, algorithm: str = "RS256", *, keep: bool = True) -> None:
        """Sign with another key from now on."""
        if not keep:
            self.keys.clear()
        self.keys[kid] = (algorithm, private_key(algorithm, f"{self.url} {kid}"))

    def jwks(self) -> bytes:
        found = []
        for kid, (algorithm, key) in self.keys.items():
            public: Any = key.public_key()
            told = get_default_algorithms()[algorithm].to_jwk(public, as_dict=True)
            found.append({**told, "kid": kid, "alg": algorithm, "use": "sig"})
        return json.dumps({"keys": found}).encode()

    async def get(self, url: str, *, insecure: bool, most_bytes: int) -> bytes:
        """What the gateway's `Web` would read there."""
        del insecure, most_bytes
        self.reads += 1
        if self.is_down:
            raise Unreachable("nobody listens there")
        return self.jwks()

    def token(self, *, kid: str | None = None, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """One for an hour, for our audience; a claim of None is left out."""
        kid = kid or next(reversed(self.keys))
        algorithm, key = self.keys[kid]
        whole = {
            "iss": self.url,
            "aud": self.audience,
            "sub": "ada",
            "iat": NOW_S,
            "exp": NOW_S + 3600,
            **claims,
        }
        told = {name: value for name, value in whole.items() if value is not None}
        return jwt.encode(told, key, algorithm, {"kid": kid, **(headers or {})})


def key_sets(issuer: IssuerWorld, known: Known, clock: Callable[[], float]) -> KeySets[KeySet]:
    """As a gateway has them, but for the sockets."""
    under_way: set[asyncio.Task[None]] = set()

    def spawn(_: str, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(job)
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    return keys_of_issuers(issuer, Tokens(), clock=clock, spawn=spawn, changed=known.trust.rekeyed)
