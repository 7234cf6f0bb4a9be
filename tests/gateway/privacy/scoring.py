"""How well is personal data found? Scores the detector on the labelled set: `python -m tests.gateway.privacy.scoring`.

The set was written without looking at the detector, and is no place to copy its rules from. One text a line in
`labelled/*.txt`; blank lines and those that begin with `# ` are for the reader. Marks in a text:

    ⟦email:ann@example.org⟧   this is what is to be found, of this kind
    ⟦not_card:4242 …4241⟧     this looks like one and does not add up: nothing is to be found (not_card, not_iban, not_id)
    ⟦in:DE,AT⟧                at the start: where national phone numbers are to be understood (else none is)
    ⏎                         a line break of the text

A span counts when its kind is the same and it covers the same characters, but for spaces and punctuation at its ends:
whether `(030) 123` begins with its bracket, or the plus belongs to a number, is nobody's privacy.

Exit codes: 0 precision and recall of every kind reach BAR, 1 one does not.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from gateway.privacy.detect import find
from tenants.privacy import KINDS as MASKED

FOLDER = Path(__file__).parent / "labelled"
KINDS: tuple[str, ...] = MASKED
FAILING = ("not_card", "not_iban", "not_id")
BAR = 0.95

_MARK = re.compile(r"⟦(\w+):([^⟦⟧]*)⟧")


class Found(NamedTuple):
    """A piece of a text, in characters, the end not included."""

    start: int
    end: int
    kind: str


class Line(NamedTuple):
    where: str  # file:number
    text: str  # without marks
    regions: tuple[str, ...]  # ISO 3166, two letters
    spans: tuple[Found, ...]
    failing: tuple[Found, ...]  # of FAILING


class Score(NamedTuple):
    kind: str
    right: int
    missed: list[tuple[Line, Found]]
    false: list[tuple[Line, Found]]

    @property
    def precision(self) -> float:
        return self.right / max(1, self.right + len(self.false))

    @property
    def recall(self) -> float:
        return self.right / max(1, self.right + len(self.missed))

    @property
    def holds(self) -> bool:
        return min(self.precision, self.recall) >= BAR


def labelled(folder: Path = FOLDER) -> list[Line]:
    """Every text of the set. Raises ValueError with the place of a mark that is none."""
    return [
        read(f"{path.name}:{number}", line)
        for path in sorted(folder.glob("*.txt"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if line.strip() and not line.startswith("# ")
    ]


def read(where: str, line: str) -> Line:
    text, at = "", 0
    regions: tuple[str, ...] = ()
    marked: list[Found] = []
    for mark in _MARK.finditer(line):
        kind, value = mark.groups()
        text += line[at : mark.start()]
        at = mark.end()
        if kind == "in" and mark.start() == 0:
            regions = tuple(value.split(","))
        elif kind in KINDS + FAILING and value:
            marked.append(Found(len(text), len(text) + len(value), kind))
            text += value
        else:
            raise ValueError(f"{where}: {mark.group()} is no mark")
    text += line[at:]
    if "⟦" in text or "⟧" in text:
        raise ValueError(f"{where}: a mark that is not closed, or not open")
    spans = tuple(it for it in marked if it.kind in KINDS)
    failing = tuple(it for it in marked if it.kind in FAILING)
    return Line(where, text.replace("⏎", "\n"), regions, spans, failing)


def core(text: str, span: Found) -> Found:
    """The span without what is neither letter nor digit at its ends."""
    start, end, kind = span
    while start < end and not text[start].isalnum():
        start += 1
    while end > start and not text[end - 1].isalnum():
        end -= 1
    return Found(start, end, kind)


def detected(line: Line) -> list[Found]:
    return [Found(it.start, it.end, str(it.kind)) for it in find(line.text, MASKED, line.regions)]


def score(lines: Iterable[Line]) -> list[Score]:
    scores = {kind: Score(kind, 0, [], []) for kind in KINDS}
    for line in lines:
        wanted = {core(line.text, it) for it in line.spans}
        got = {core(line.text, it) for it in detected(line)}
        for span in wanted | got:
            kept = scores[span.kind]
            if span in wanted and span in got:
                scores[span.kind] = kept._replace(right=kept.right + 1)
            else:
                (kept.missed if span in wanted else kept.false).append((line, span))
    return list(scores.values())


def report(scores: Iterable[Score]) -> Iterator[str]:
    for it in scores:
        for title, cases in (("missed", it.missed), ("false alarm", it.false)):
            for line, (start, end, kind) in cases:
                yield f"{title}: {kind} {line.text[start:end]!r} in {line.where}: {line.text!r}"
    yield f"{'kind':<14}{'precision':>10}{'recall':>8}{'right':>7}{'missed':>8}{'false':>7}"
    for it in scores:
        counts = f"{it.right:>7}{len(it.missed):>8}{len(it.false):>7}"
        yield f"{it.kind:<14}{it.precision:>10.3f}{it.recall:>8.3f}{counts}{'' if it.holds else f'  below {BAR}'}"


def main() -> int:
    scores = score(labelled())
    print("\n".join(report(scores)))
    return 0 if all(it.holds for it in scores) else 1


if __name__ == "__main__":
    sys.exit(main())
