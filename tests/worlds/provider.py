"""A world with an OpenID provider in it: a real one, in a process of its own (`provider_process`), where users sign in as with a browser.

It can be stopped, killed and suspended, and started again at its port with the keys that it had; its signing keys change while it runs.
"""

import base64
import hashlib
import http.client
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt

from gateway.scaling.scalers.process import free_port
from tests.conftest import ROOT

Algorithm = Literal["RS256", "ES256", "EdDSA"]

DISCOVERY = "/.well-known/openid-configuration"
JWKS = "/jwks"
# Nobody listens there: a browser that is sent back is asked only where to.
REDIRECT = "http://127.0.0.1:9/callback"
SCOPE = "openid email work"

_START_SECONDS = 20.0
_STOP_SECONDS = 10.0
_CALL_SECONDS = 10.0
_PARTS = ("kty", "kid", "crv", "x", "y", "n", "e", "d")
_TYPES = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}


def _secret() -> str:
    return secrets.token_urlsafe(24)


@dataclass(frozen=True, slots=True)
class Client:
    """A relying party: ID tokens for it have its name as audience, and are signed with its algorithm.

    Its own access tokens, of client credentials, say `claims`: without an `aud` in them they are for nobody.
    """

    algorithm: Algorithm = "RS256"
    claims: Mapping[str, Any] = field(default_factory=dict)
    secret: str = field(default_factory=_secret)


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a login gave. Both are JWTs; the ID token is for the client, the access token for nobody in particular."""

    id_token: str
    access_token: str


class Refused(Exception):
    """The provider did not give what was asked for: its status and answer."""


@dataclass(slots=True)
class Provider:
    """`users` go by their name, which is their `sub`, to their claims. Tokens live for `lifetime_seconds`.

    Scope `email` gives email and email_verified, scope `work` roles and tenant. `start` before anything else.
    """

    folder: Path
    users: Mapping[str, Mapping[str, Any]]
    clients: Mapping[str, Client] = field(default_factory=lambda: {"gateway": Client()})
    lifetime_seconds: int = 300
    port: int = field(default_factory=lambda: free_port(secrets.choice))
    passwords: dict[str, str] = field(default_factory=dict)
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # The process

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """It serves when this returns. The keys are those that its folder has; without any it makes some."""
        assert self._process is None
        self.passwords = {user: self.passwords.get(user) or _secret() for user in self.users}
        plan = {
            "port": self.port,
            "lifetime_seconds": self.lifetime_seconds,
            "users": {
                name: {**claims, "password": self.passwords[name]} for name, claims in self.users.items()
            },
            "clients": {
                name: {
                    "secret": it.secret,
                    "redirect": REDIRECT,
                    "algorithm": it.algorithm,
                    "claims": dict(it.claims),
                }
                for name, it in self.clients.items()
            },
        }
        self.folder.mkdir(exist_ok=True)
        (self.folder / "provider.json").write_text(json.dumps(plan))
        program = [sys.executable, "-m", "tests.worlds.provider_process", str(self.folder)]
        with (self.folder / "stderr").open("ab") as log:
            self._process = subprocess.Popen(
                program, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, cwd=ROOT
            )
        assert self._process.stdout is not None
        ready = select.select([self._process.stdout], [], [], _START_SECONDS)[0]
        if not ready or self._process.stdout.readline() != b"serving\n":
            self.kill()
            raise Refused((self.folder / "stderr").read_text())

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def suspend(self) -> None:
        """SIGSTOP: connections to it are made, and never answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdout is not None
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(_STOP_SECONDS)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    # Its keys

    def rotate(self) -> None:
        """New keys are published and sign from now on; the older stay published."""
        self._call("POST", "/world/rotate")

    def retire(self) -> None:
        """Only the keys that sign are published."""
        self._call("POST", "/world/retire")

    def published(self, *, timeout_seconds: float = _CALL_SECONDS) -> list[dict[str, Any]]:
        """The key set as anybody sees it. It counts as a request."""
        _, body = self._call("GET", JWKS, timeout_seconds=timeout_seconds)
        keys: list[dict[str, Any]] = json.loads(body)["keys"]
        return keys

    def discovered(self) -> dict[str, Any]:
        """Its configuration as anybody sees it. It counts as a request."""
        said: dict[str, Any] = json.loads(self._call("GET", DISCOVERY)[1])
        return said

    def minted(self, claims: Mapping[str, Any], *, algorithm: Algorithm = "RS256", **header: object) -> str:
        """A token that the provider would never give, signed with the key that signs now; it may be down. `header` replaces its fields."""
        keys = json.loads((self.folder / "keys.json").read_text())["keys"]
        found = next(key for key in keys if key["kty"] == _TYPES[algorithm])
        # The file has some of the primes' parts; PyJWT takes all of them or none.
        key = {name: value for name, value in found.items() if name in _PARTS}
        return jwt.encode(
            dict(claims), jwt.PyJWK(key, algorithm).key, algorithm, {"kid": key["kid"], **header}
        )

    def claims(self, user: str, client: str = "gateway", **changed: object) -> dict[str, Any]:
        """What a token of this user says now, with some of it changed."""
        now = int(time.time())
        said = {
            "iss": self.issuer,
            "sub": user,
            "aud": client,
            "iat": now,
            "exp": now + self.lifetime_seconds,
        }
        return said | dict(self.users[user]) | changed

    # What relying parties and browsers ask

    def login(self, user: str, client: str = "gateway", *, scope: str = SCOPE) -> Tokens:
        """The authorization code flow with PKCE: the client sends a browser there, the user fills in the form, the code becomes tokens."""
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(12)
        code = self.code(user, client, verifier=verifier, state=state, scope=scope)
        return self.redeem(code, client, verifier=verifier)

    def code(self, user: str, client: str, *, verifier: str, state: str, scope: str = SCOPE) -> str:
        """What the browser brings back to the client."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
        asked = {
            "client_id": client,
            "redirect_uri": REDIRECT,
            "response_type": "code",
            "scope": scope,
            "state": state,
            "nonce": secrets.token_urlsafe(12),
            "code_challenge": challenge.decode(),
            "code_challenge_method": "S256",
        }
        _, page = self._call("GET", "/authorization?" + urlencode(asked))
        form = _Form(page.decode())
        filled = form.fields | {"username": user, "password": self.passwords[user]}
        location, _ = self._call("POST", form.action, filled)
        back = urlsplit(location)
        said = parse_qs(back.query)
        assert (back._replace(query="").geturl(), said["state"]) == (REDIRECT, [state])
        return said["code"][0]

    def redeem(self, code: str, client: str, *, verifier: str) -> Tokens:
        given = self._token(
            client,
            grant_type="authorization_code",
            code=code,
            redirect_uri=REDIRECT,
            code_verifier=verifier,
        )
        return Tokens(given["id_token"], given["access_token"])

    def client_credentials(self, client: str = "gateway") -> str:
        """The access token of a client itself, of no user."""
        token: str = self._token(client, grant_type="client_credentials")["access_token"]
        return token

    def userinfo(self, access_token: str) -> dict[str, Any]:
        _, body = self._call("GET", "/userinfo", credential=f"Bearer {access_token}")
        said: dict[str, Any] = json.loads(body)
        return said

    def asked(self, path: str) -> int:
        """How many requests there were for this path, in all of the provider's lives. It may be down."""
        log = self.folder / "requests.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return sum(line.split(" ")[1] == path for line in lines)

    def _token(self, client: str, **asked: str) -> dict[str, Any]:
        pair = f"{client}:{self.clients[client].secret}".encode()
        _, body = self._call("POST", "/token", asked, f"Basic {base64.b64encode(pair).decode()}")
        given: dict[str, Any] = json.loads(body)
        return given

    def _call(
        self,
        method: str,
        path: str,
        form: Mapping[str, str] | None = None,
        credential: str = "",
        *,
        timeout_seconds: float = _CALL_SECONDS,
    ) -> tuple[str, bytes]:
        """Where the answer sends a browser, and its body."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if form is not None else {}
        if credential:
            headers["Authorization"] = credential
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_seconds)
        try:
            connection.request(method, path, urlencode(form or {}), headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise Refused(f"{answer.status} {body.decode(errors='replace')}")
        return answer.getheader("location", ""), body


@contextmanager
def providing(
    folder: Path, users: Mapping[str, Mapping[str, Any]], clients: Mapping[str, Client] | None = None
) -> Iterator[Provider]:
    """A provider that serves; none is left when the block ends."""
    provider = Provider(folder, users, clients or {"gateway": Client()})
    provider.start()
    try:
        yield provider
    finally:
        provider.kill()


class _Form(HTMLParser):
    """The one form of a page: where it goes, and what it holds."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self.action = given["action"] or ""
        elif tag == "input":
            self.fields[given["name"] or ""] = given.get("value") or ""
