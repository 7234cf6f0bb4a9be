"""What nginx asks about each request with `auth_request`: the least that knows who is asking. One key, its digest in a dict.

KEY=... python -m tests.bench.authorize PORT
"""

import os
import sys
from hashlib import sha256

from tests.bench.passthrough import Application, Message, Receive, Send, serve

_BEARER = "Bearer "


def authorizer(key: str) -> Application:
    known = {sha256(key.encode()).digest(): "bench"}

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        credential: bytes = dict(scope["headers"]).get(b"authorization", b"")
        tenant = known.get(sha256(credential[len(_BEARER) :]).digest())
        status = 204 if tenant else 401
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


if __name__ == "__main__":
    serve(authorizer(os.environ["KEY"]), int(sys.argv[1]))
