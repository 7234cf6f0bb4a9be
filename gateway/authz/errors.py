"""What stops a start. Whoever only says so needs no Cedar for it."""

from pathlib import Path


class PolicyError(Exception):
    """The policies cannot be used; says which file and why. Stops the start: nobody meets half a policy."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file
        self.reason = reason
