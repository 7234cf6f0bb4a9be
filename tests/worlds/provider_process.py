"""An OpenID provider in a process of its own: `python -m tests.worlds.provider_process FOLDER`.

The package's (idpyoidc): discovery, the authorization code flow with PKCE, the sessions, the clients' authentication, every token and
its signature, client credentials and user info. Tokens are made by cryptojwt, which is not what reads them here.

Ours: HTTP around its endpoints, for it brings none; the page of the login form; which keys there are and when they change, through
cryptojwt's key bundles; through places that it keeps for it, a subject that is the user's own name and not a hash, and claims of clients;
and two doors for `Provider`, below `/world`, which no relying party knows.

`FOLDER/provider.json` says what to serve, as `Provider.start` writes it. `FOLDER/keys.json` holds the private keys, the newest first: they
are made when it is missing, and read otherwise, so a provider that starts again has the keys that it had. `FOLDER/requests.log` has a line
for each request, written before it is answered: `METHOD PATH`.
"""

import json
import socket
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import uvicorn
from cryptojwt.jwk.ec import new_ec_key
from cryptojwt.jwk.okp import new_okp_key
from cryptojwt.jwk.rsa import new_rsa_key
from cryptojwt.key_bundle import KeyBundle
from cryptojwt.key_jar import KeyJar
from idpyoidc.message.oauth2 import ResponseMessage
from idpyoidc.message.oidc import AuthorizationRequest
from idpyoidc.server import Server
from idpyoidc.server.configure import OPConfiguration
from idpyoidc.server.exception import ClientAuthenticationError, FailedAuthentication, OnlyForTestingWarning
from idpyoidc.server.token.jwt_token import JWTToken
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

FORM = """<!doctype html><title>{{ page_header }}</title>
<form method="post" action="/{{ action }}">
<input type="hidden" name="token" value="{{ token }}">
<input name="username"><input type="password" name="password"><button>{{ submit_btn }}</button>
</form>
"""
SCOPES = {"openid": ["sub"], "email": ["email", "email_verified"], "work": ["roles", "tenant"]}


class Keys:
    """The signing keys, one of each kind a generation, newest generation first: the first of a kind signs, and all are published."""

    def __init__(self, file: Path, issuer: str) -> None:
        self._file = file
        self._bundle = KeyBundle()
        self.jar = KeyJar()
        for owner in ("", issuer):  # who signs, and whose tokens it recognizes
            self.jar.add_kb(owner, self._bundle)
        if file.exists():
            self._put(json.loads(file.read_text())["keys"])
        else:
            self.rotate()

    def published(self) -> dict[str, Any]:
        return {"keys": self._serialized(private=False)}

    def rotate(self) -> None:
        """New keys sign from now on. The old ones stay published."""
        made = (new_rsa_key(use="sig"), new_ec_key("P-256", use="sig"), new_okp_key("Ed25519", use="sig"))
        self._put([key.serialize(private=True) for key in made] + self._serialized(private=True))

    def retire(self) -> None:
        """Only the newest generation is published."""
        self._put(self._serialized(private=True)[:3])

    def _serialized(self, *, private: bool) -> list[dict[str, Any]]:
        return [key.serialize(private=private) for key in self._bundle.keys()]  # noqa: SIM118 - a bundle is no dict

    def _put(self, keys: list[dict[str, Any]]) -> None:
        draft = self._file.with_suffix(".new")
        draft.write_text(json.dumps({"keys": keys}))
        draft.replace(self._file)
        self._bundle.set([])
        self._bundle.do_keys(keys)


class AccessToken(JWTToken):  # type: ignore[misc]  # the package has no types
    """An access token of a client itself, of no user, says besides what the plan has for the client."""

    def load_custom_claims(self, payload: dict[str, Any]) -> dict[str, Any]:
        owner, client, *_ = self.upstream_get("context").session_manager.decrypt_branch_id(payload["sid"])
        if owner != "client_credentials":
            return payload
        said: dict[str, Any] = self.kwargs["of_clients"][client]
        return payload | {"sub": client, "client_id": client} | said


def own_name(user: str, **_: object) -> str:
    return user


def configuration(folder: Path, plan: Mapping[str, Any], issuer: str) -> dict[str, Any]:
    users, lifetime = plan["users"], plan["lifetime_seconds"]
    passwords = {user: claims["password"] for user, claims in users.items()}
    people = {user: {n: v for n, v in claims.items() if n != "password"} for user, claims in users.items()}
    login = {"verify_endpoint": "verify/user", "template": "login.html", "db": _made(dict, **passwords)}
    pkce = {"essential": True, "code_challenge_methods": {"S256": None}}
    minting = {"supports_minting": ["access_token", "id_token"], "max_usage": 1}
    rules = {"authorization_code": minting, "access_token": {"expires_in": lifetime}}
    return {
        "issuer": issuer,
        "template_dir": str(folder),
        "cookie_handler": _made(
            "cookie_handler.CookieHandler", keys=_secret_keys(), name={"session": "session"}
        ),
        "endpoint": endpoints(),
        "token_handler_args": {
            "key_conf": _secret_keys(),
            "code": {"kwargs": {"lifetime": 60}},
            "token": {
                "class": f"{__name__}.AccessToken",
                "kwargs": {
                    "alg": "RS256",
                    "lifetime": lifetime,
                    "add_claims_by_scope": True,
                    "of_clients": {name: client["claims"] for name, client in plan["clients"].items()},
                },
            },
            "id_token": _made("token.id_token.IDToken", lifetime=lifetime, add_claims_by_scope=True),
        },
        "add_ons": {"pkce": {"function": "idpyoidc.server.oauth2.add_on.pkce.add_support", "kwargs": pkce}},
        "authz": _made("authz.AuthzHandling", grant_config={"usage_rules": rules}),
        "authentication": {"user": {"acr": "password", **_made("user_authn.user.UserPassJinja2", **login)}},
        "userinfo": _made("user_info.UserInfo", db=people),
        "scopes_to_claims": SCOPES,
        "session_params": {"sub_func": {"public": {"function": own_name}}},
    }


def endpoints() -> dict[str, Any]:
    grants = {
        "authorization_code": _made("oidc.token_helper.access_token.AccessTokenHelper"),
        "client_credentials": _made("oauth2.token_helper.client_credentials.ClientCredentials"),
    }
    config = _made("oidc.provider_config.ProviderConfiguration", client_authn_method=None)
    codes = _made(
        "oidc.authorization.Authorization", client_authn_method=None, response_types_supported=["code"]
    )
    tokens = _made(
        "oidc.token.Token", client_authn_method=["client_secret_basic"], grant_types_helpers=grants
    )
    user = _made("oidc.userinfo.UserInfo", client_authn_method=["bearer_header"], add_claims_by_scope=True)
    return {
        "provider_config": {"path": ".well-known/openid-configuration", **config},
        "authorization": {"path": "authorization", **codes},
        "token": {"path": "token", **tokens},
        "userinfo": {"path": "userinfo", **user},
    }


def _made(of: str | type, **arguments: Any) -> dict[str, Any]:
    """How the package is told to make one of its own classes, or another."""
    return {"class": f"idpyoidc.server.{of}" if isinstance(of, str) else of, "kwargs": arguments}


def _secret_keys() -> dict[str, Any]:
    """Its own of one life, for what nobody else reads: codes and cookies."""
    return {"key_defs": [{"type": "OCT", "use": [use], "kid": use} for use in ("enc", "sig")]}


class World:
    """What HTTP asks of the provider."""

    def __init__(self, folder: Path) -> None:
        plan = json.loads((folder / "provider.json").read_text())
        self.port: int = plan["port"]
        self.issuer = f"http://127.0.0.1:{self.port}"
        self.keys = Keys(folder / "keys.json", self.issuer)
        (folder / "login.html").write_text(FORM)
        self.server = Server(OPConfiguration(configuration(folder, plan, self.issuer)), keyjar=self.keys.jar)
        context = self.server.context
        context.provider_info["jwks_uri"] = f"{self.issuer}/jwks"
        del context.provider_info["jwks"]  # those of the start, which no rotation changes
        for name, client in plan["clients"].items():
            context.cdb[name] = {
                "client_id": name,
                "client_secret": client["secret"],
                "redirect_uris": [(client["redirect"], None)],
                "token_endpoint_auth_method": "client_secret_basic",
                "id_token_signed_response_alg": client["algorithm"],
                "allowed_scopes": list(SCOPES),
                "grant_types_supported": ["authorization_code", "client_credentials"],
            }

    async def jwks(self, _: Request) -> Response:
        return JSONResponse(self.keys.published())

    async def rotate(self, _: Request) -> Response:
        self.keys.rotate()
        return JSONResponse(self.keys.published())

    async def retire(self, _: Request) -> Response:
        self.keys.retire()
        return JSONResponse(self.keys.published())

    async def provider_config(self, request: Request) -> Response:
        return await self._serve("provider_config", request)

    async def authorization(self, request: Request) -> Response:
        return await self._serve("authorization", request)

    async def token(self, request: Request) -> Response:
        return await self._serve("token", request)

    async def userinfo(self, request: Request) -> Response:
        return await self._serve("userinfo", request)

    async def verify(self, request: Request) -> Response:
        """The login form was sent."""
        form = _fields(await request.body())
        method = self.server.context.authn_broker.get_method_by_id("user")
        try:
            user = method.verify(**form)
        except (FailedAuthentication, KeyError):
            return Response("Authentication failed", 403)
        asked = method.unpack_token(form["token"])
        wanted = AuthorizationRequest().from_urlencoded(asked["query"])
        endpoint = self.server.get_endpoint("authorization")
        session = endpoint.create_session(wanted, user, asked["authn_class_ref"], asked["iat"], method)
        return self._answer(endpoint, wanted, endpoint.authz_part2(request=wanted, session_id=session))

    async def _serve(self, name: str, request: Request) -> Response:
        """One of the package's endpoints: parse, process, answer."""
        endpoint = self.server.get_endpoint(name)
        sent = dict(request.query_params) if request.method == "GET" else _fields(await request.body())
        about = {
            "headers": {n: v for n, v in request.headers.items() if n != "cookie"},
            "method": request.method,
            "url": str(request.url),
            "cookie": [{"name": n, "value": v} for n, v in request.cookies.items()],
        }
        try:
            asked = endpoint.parse_request(sent, http_info=about)
        except ClientAuthenticationError:
            return JSONResponse({"error": "invalid_client"}, 401)
        if isinstance(asked, ResponseMessage) and "error" in asked:
            return Response(asked.to_json(), 400, media_type="application/json")
        return self._answer(endpoint, asked, endpoint.process_request(asked, http_info=about))

    def _answer(self, endpoint: Any, asked: Any, done: Any) -> Response:
        if isinstance(done, ResponseMessage) and "error" in done:
            return Response(done.to_json(), 400, media_type="application/json")
        if "http_response" in done:
            return Response(done["http_response"], media_type="text/html")
        said = endpoint.do_response(request=asked, **done)
        if said.get("response_placement", endpoint.response_placement) == "url":
            answer: Response = RedirectResponse(said["response"], 303)
        else:
            answer = Response(said["response"], said.get("response_code", 200))
        for name, value in said["http_headers"]:
            answer.headers[name] = value
        return answer


class Counted:
    """A line in the log for each request, before anything is done about it."""

    def __init__(self, app: ASGIApp, *, log: Path) -> None:
        self._app = app
        self._log = log.open("a", buffering=1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._log.write(f"{scope['method']} {scope['path']}\n")
        await self._app(scope, receive, send)


def _fields(form: bytes) -> dict[str, str]:
    return dict(parse_qsl(form.decode()))


def main(folder: Path) -> None:
    warnings.simplefilter("ignore", OnlyForTestingWarning)
    world = World(folder)
    routes = [
        Route("/.well-known/openid-configuration", world.provider_config),
        Route("/jwks", world.jwks),
        Route("/authorization", world.authorization),
        Route("/verify/user", world.verify, methods=["POST"]),
        Route("/token", world.token, methods=["POST"]),
        Route("/userinfo", world.userinfo),
        Route("/world/rotate", world.rotate, methods=["POST"]),
        Route("/world/retire", world.retire, methods=["POST"]),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(Counted, log=folder / "requests.log")])
    with socket.create_server(("127.0.0.1", world.port), backlog=128) as listener:
        print("serving", flush=True)  # who connects from now on is answered
        config = uvicorn.Config(app, log_level="warning", access_log=False)
        uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
