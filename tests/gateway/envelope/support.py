"""Keys, contexts and salts that tests can foresee."""

from collections.abc import Callable

from gateway.envelope.derived import NotOpened
from gateway.envelope.keys import Context, DataKey, Material

KEY = DataKey("d_first", Material(bytes(range(32))))
OTHER = DataKey("d_first", Material(bytes(range(1, 33))))  # the same id, another secret
CONTEXT = Context("t_acme", "replies", "r_1")
SALT = bytes(range(100, 132))


def opens(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except NotOpened:
        return False
    return True
