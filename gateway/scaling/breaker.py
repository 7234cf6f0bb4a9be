"""What failed is not asked again at once. Pure; one for the starts of a fleet, one for the loads of a model.

    closed     all goes through; the `threshold`th failure opens it
    open       nothing goes through for `first_seconds`, doubled with each further failure, at most `most_seconds`
    half-open  that while is over: one probe goes through; it closes the breaker or opens it again

Failures are forgotten once there was none for `forget_seconds`, not with the first success: a server that starts well and crashes a
second later, again and again, is a crash loop. While nothing goes through nothing can fail: that time does not count.
"""

import math
from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "open", "half-open"]


@dataclass(slots=True)
class Breaker:
    threshold: int = 1
    first_seconds: float = 1.0
    most_seconds: float = 60.0
    forget_seconds: float = 60.0
    why: str = ""  # the last failure, for people
    failures: int = 0
    _closed: bool = True
    _until: float = -math.inf  # when the last failure's pause is over, or came, when it brought none
    _probing: bool = False

    def state(self, now: float) -> State:
        if self._closed:
            return "closed"
        return "half-open" if now >= self._until else "open"

    def allows(self, now: float) -> bool:
        """Whether to ask again; of a half-open one only the first who asks, until it is told how that went."""
        match self.state(now):
            case "closed":
                return True
            case "half-open" if not self._probing:
                self._probing = True
                return True
        return False

    @property
    def until(self) -> float:
        """When it can be tried again."""
        return self._until

    def wait_seconds(self, now: float) -> float:
        """How long nothing goes through yet."""
        return 0.0 if self._closed else max(0.0, self._until - now)

    def failed(self, why: str, now: float, *, is_certain: bool = False) -> None:
        """One that is certain to come again opens it at once."""
        if now - self._until > self.forget_seconds:
            self.failures = 0
        self.why, self._until, self._probing = why, now, False
        self.failures = max(self.failures + 1, self.threshold if is_certain else 0)
        if self.failures >= self.threshold:
            doublings = min(self.failures - self.threshold, 32)
            self._closed = False
            self._until += min(self.most_seconds, self.first_seconds * 2.0**doublings)

    def told(self, why: str, until: float) -> None:
        """Somebody else counts the failures: nothing goes through until then."""
        self.why, self._until, self._closed, self._probing = why, until, False, False

    def succeeded(self) -> None:
        """Closed again; a failure soon after counts on."""
        self._closed = True
