"""How much was asked of a model lately: averages of its concurrency over the last seconds. Pure."""

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Window:
    """Samples of the last `keep_seconds`; an average is over what was sampled, so a model that is new is not watered down."""

    keep_seconds: float
    _samples: deque[tuple[float, float]] = field(default_factory=deque)

    def record(self, concurrency: float, now: float) -> None:
        self._samples.append((now, concurrency))
        while self._samples[0][0] <= now - self.keep_seconds:
            self._samples.popleft()

    def average(self, seconds: float, now: float) -> float:
        """Over the samples of the last `seconds`; 0 without one."""
        total, count = 0.0, 0
        for at, concurrency in reversed(self._samples):
            if at <= now - seconds:
                break
            total += concurrency
            count += 1
        return total / count if count else 0.0
