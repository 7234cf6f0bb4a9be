"""How many replicas a model should have. Pure; the rules are those of Knative's pod autoscaler (KPA), which its users know.

    stable   average concurrency of 60 s over the target, rounded up
    panic    the same over 6 s; when that is twice what is there, the model panics: until a stable window has passed without another
             such moment, it never shrinks
    down     what was wanted at any time in the last 30 s is kept, so a pause between two waves costs no start

From zero and down to zero are not decided here: a call that waits wants one replica, and a model that nobody called for its
`idle_seconds` wants none (`autoscaler`).
"""

import math
from collections import deque
from dataclasses import dataclass, field

from gateway.scaling.windows import Window
from tenants.model import Scaling

STABLE_SECONDS = 60.0
PANIC_SECONDS = 6.0
PANIC_THRESHOLD = 2.0
SCALE_DOWN_DELAY_SECONDS = 30.0


@dataclass(slots=True)
class Decider:
    _window: Window = field(default_factory=lambda: Window(STABLE_SECONDS))
    _panicking_until: float = -math.inf
    _last: int = 1
    _wanted: deque[tuple[float, int]] = field(default_factory=deque)

    def decide(self, scaling: Scaling, concurrency: float, ready: int, now: float) -> int:
        """Take in how many calls there are now and how many replicas; give how many there should be, 1 to `max_replicas`."""
        self._window.record(concurrency, now)
        stable = self._replicas(scaling, STABLE_SECONDS, now)
        panic = self._replicas(scaling, PANIC_SECONDS, now)
        if panic >= PANIC_THRESHOLD * max(1, ready):
            self._panicking_until = now + STABLE_SECONDS
        wanted = max(stable, panic, self._last) if now < self._panicking_until else stable
        self._last = min(self._held(max(1, wanted), now), scaling.max_replicas)
        return self._last

    def _replicas(self, scaling: Scaling, seconds: float, now: float) -> int:
        return math.ceil(self._window.average(seconds, now) / scaling.target_concurrency)

    def _held(self, wanted: int, now: float) -> int:
        """The most that was wanted within the delay: a queue whose values fall, so that its first is the greatest."""
        while self._wanted and self._wanted[-1][1] <= wanted:
            self._wanted.pop()
        self._wanted.append((now, wanted))
        while self._wanted[0][0] <= now - SCALE_DOWN_DELAY_SECONDS:
            self._wanted.popleft()
        return self._wanted[0][1]
