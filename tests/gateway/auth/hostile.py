"""Tokens that nobody may come in with: a name, and how it is made in a world.

`HOSTILE` can be sent in a header. `UNSENDABLE` cannot, or would be another token behind it: front ends take off blanks at the ends, and
have no NUL. `ELSEWHERE` are sound tokens under the issuer's own keys, with another issuer or audience: to read and verify them is right,
to let them in is not.
"""

from collections.abc import Callable
from typing import Any, Final

from tests.gateway.auth.hostile_claims import claimed, headed, timed
from tests.gateway.auth.hostile_keys import Make, Named, confused, injected, malleable, named, replayed
from tests.gateway.auth.hostile_texts import encoded, forms, oversized, texts, twice, unsendable

_ISSUERS: Final[dict[str, Callable[[str], str]]] = {
    "another host": lambda _: "https://login.other.example",
    "a slash behind": lambda it: it + "/",
    "capitals": str.upper,
    "another scheme": lambda it: "gopher" + it[it.index(":") :],
    "a user before the host": lambda it: it.replace("://", "://a@"),
    "a path behind": lambda it: it + "/../x",
}
_AUDIENCES: Final[dict[str, Callable[[str], Any]]] = {
    "another": lambda _: "billing",
    "more before": lambda it: "x" + it,
    "more behind": lambda it: it + "x",
    "capitals": str.upper,
    "several others": lambda it: ["billing", it + "2"],
    "all of them": lambda _: "*",
}


def _elsewhere() -> Named:
    for what, issuer in _ISSUERS.items():
        yield f"iss: {what}", _of(issuer, lambda it: it)
    for what, audience in _AUDIENCES.items():
        yield f"aud: {what}", _of(lambda it: it, audience)


def _of(issuer: Callable[[str], str], audience: Callable[[str], Any]) -> Make:
    return lambda world: world.token(
        "EdDSA", claims={"iss": issuer(world.issuer), "aud": audience(world.audience)}
    )


PAIRS: Final = [
    *(*confused(), *injected(), *named(), *malleable(), *replayed()),
    *(*claimed(), *timed(), *headed(), *forms(), *texts(), *twice(), *encoded(), *oversized()),
]
HOSTILE: Final[dict[str, Make]] = dict(PAIRS)
UNSENDABLE: Final[dict[str, Make]] = dict(unsendable())
ELSEWHERE: Final[dict[str, Make]] = dict(_elsewhere())
