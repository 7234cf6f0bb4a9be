"""Stop sequences: a text that comes in pieces ends before the first one that is complete, wherever the pieces are cut. Pure."""

from collections.abc import Sequence


class Stops:
    """Holds back what could be the beginning of a stop sequence, and nothing else."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.stopped = False
        """A stop sequence was there: nothing behind it is told."""

    def push(self, piece: str) -> str:
        """What may be told now."""
        if self.stopped:
            return ""
        text = self._held + piece
        found = [(start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[
                : min(found)[1]
            ]  # the first to be complete, as the model's next word would have been behind it
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def end(self) -> str:
        """What was held back, as no more comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of the text begin the stop sequence."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
