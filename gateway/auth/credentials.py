"""Which credential a request carries: `Authorization: Bearer ...` or `x-api-key`, on HTTP and as gRPC metadata alike."""

from collections.abc import Sequence

from gateway.errors import Code, GatewayError
from tenants.keys import Secret

_BEARER = b"bearer "


def credential(authorization: Sequence[bytes], api_key: Sequence[bytes]) -> Secret | None:
    """The one credential in these header values, None without any. Raises TWO_CREDENTIALS, UNAUTHENTICATED."""
    found = set(map(bytes.strip, api_key))
    for value in authorization:
        if value[: len(_BEARER)].lower() != _BEARER:
            raise GatewayError(Code.UNAUTHENTICATED, private="an Authorization scheme other than Bearer")
        found.add(value[len(_BEARER) :].strip())
    if len(found) > 1:
        raise GatewayError(Code.TWO_CREDENTIALS)
    for value in found:
        return Secret(value.decode("latin-1"))
    return None
