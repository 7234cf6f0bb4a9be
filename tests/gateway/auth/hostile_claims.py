"""Hostile tokens whose claims or header say what they may not: pairs of a name and how it is made."""

import json
from typing import Any, Final

from tests.gateway.auth.hostile_keys import FORMS, Make, Named, header
from tests.gateway.auth.signers import ABSENT, base64url, dumped

_TEXTS: Final[dict[str, Any]] = {
    **FORMS,
    "an empty string": "",
    "a string with a NUL": "a\0b",
    "a string with a line feed": "a\nb",
    "a string turned around": "a\u202eb",
    "half a surrogate pair": "a\ud800",
}


def claims(**given: Any) -> Make:
    return lambda world: world.token("EdDSA", claims=given)


def _at(name: str, seconds: float) -> Make:
    """So far from now."""
    return lambda world: world.token("EdDSA", claims={name: world.now + seconds})


def spelled(name: str, text: str) -> Make:
    """A claim as it is written."""
    return lambda world: world.raw(
        payload=behind(dumped(world.claims(**{name: ABSENT})), f'"{name}": {text}')
    )


def behind(found: bytes, text: str) -> bytes:
    return found[:-1] + b", " + text.encode() + b"}"


def claimed() -> Named:
    for name, most in (("iss", 500), ("sub", 255)):
        yield f"{name} is missing", claims(**{name: ABSENT})
        yield f"{name} is too long", claims(**{name: "a" * (most + 1)})
        for form, value in _TEXTS.items():
            yield f"{name} is {form}", claims(**{name: value})
    lists: dict[str, Any] = {
        "an empty list": [],
        "a list of lists": [["gateway"]],
        "21 strings": ["gateway"] * 21,
    }
    yield "aud is missing", claims(aud=ABSENT)
    yield "aud is too long", claims(aud="a" * 501)
    for form, value in {**_TEXTS, **lists}.items():
        if form != "a list":
            yield f"aud is {form}", claims(aud=value)
        if form not in lists:
            yield f"aud has ours and {form}", claims(aud=["gateway", value])
    logout = "http://schemas.openid.net/event/backchannel-logout"
    for form, value in {"a logout": {logout: {}}, "nothing": {}, "null": None}.items():
        yield f"events is {form}", claims(events=value)
    for form, value in {"a thumbprint": {"jkt": "x"}, "nothing": {}, "null": None}.items():
        yield f"cnf is {form}", claims(cnf=value)


_NO_TIMES: Final = (
    *("null", "true", "false", '"1700000300"', '"never"', '""', "[]", "[1700000300]", "{}"),
    *("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e300", "-1", "0", "-0", "0.0", "-0.0"),
    *("1e-400", "9007199254740992", "253402300800", "1700000300000", "01700000300", "+1700000300"),
    *("0x6553f100", "1_700_000_300", "1" * 19, "1" * 20, "1" * 5000, "-" + "1" * 5000, "1." + "1" * 5000),
)
_TYPES: Final = (
    *("JWE", "JWS", "JOSE", "JOSE+JSON", "logout+jwt", "dpop+jwt", "secevent+jwt", "text/jwt"),
    *("application/logout+jwt", "application/application/jwt", "application/", "at+jwt;v=1", "jwt+at"),
    *("", "JWT ", " JWT", "JWT\0", "\uff2aWT"),
)
_CRITICAL: Final = (
    *("[]", '["exp"]', '["b64"]', '["alg"]', '["x"]', '["x","x"]', '"b64"'),
    *("null", "{}", "true", "0", "[1]", '[""]', '""'),
)


def timed() -> Named:
    for name in ("exp", "nbf", "iat"):
        for text in _NO_TIMES:
            yield f"{name} is {text[:20]} ({len(text)})", spelled(name, text)
    yield "exp is missing", claims(exp=ABSENT)
    yield "it has expired", _at("exp", -30)
    yield "it has expired by a fraction", _at("exp", -30.5)
    yield "it expired long ago", claims(exp=1)
    yield "it does not hold yet", _at("nbf", 600)
    yield "it was issued in the future", _at("iat", 600)
    yield (
        "exp is in a claim of another case",
        lambda world: world.raw(payload=dumped({**world.claims(exp=ABSENT), "EXP": world.now + 300})),
    )


def headed() -> Named:
    for typ in _TYPES:
        yield f"typ is {typ!a}", header(typ=typ)
    for form, value in {**FORMS, "a list of a right one": ["JWT"]}.items():
        yield f"typ is {form}", header(typ=value)
    for crit in _CRITICAL:
        yield f"crit is {crit}", header(crit=json.loads(crit))
    yield "crit names what is there", header(crit=["x"], x=1)
    for b64 in (False, True, None, "false", 0):
        yield f"b64 is {json.dumps(b64)}", header(b64=b64)
        yield f"b64 is {json.dumps(b64)}, and critical", header(b64=b64, crit=["b64"])
    for name in ("zip", "enc", "cty"):
        for said in ("JWT", "application/jwt", "DEF", "A128GCM", "", None):
            yield f"{name} is {json.dumps(said)}", header(**{name: said})
    yield (
        "b64 is false, and the claims are not encoded",
        lambda world: world.token(header={"b64": False, "crit": ["b64"]}).replace(
            base64url(dumped(world.claims())), dumped(world.claims()).decode().replace(".", "-")
        ),
    )
