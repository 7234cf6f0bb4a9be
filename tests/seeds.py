"""How often chance is asked: a simulation leads few lives in `make test`, and many in the long form, which `make chaos` runs."""

import os

FULL = os.environ.get("CHAOS") == "full"


def seeds(few: int, many: int) -> range:
    """The seeds of a simulation: the first `few`, with CHAOS=full the first `many`, with SEEDS=N as many as that says."""
    return range(int(os.environ.get("SEEDS") or (many if FULL else few)))
