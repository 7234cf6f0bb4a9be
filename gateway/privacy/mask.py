"""Personal data in a request is replaced by placeholders, and what they stand for is put back into its reply.

`[EMAIL]`, `[PHONE]`, `[PAYMENT_CARD]`, `[IBAN]`, `[NATIONAL_ID]`; where a privacy is reversible `[EMAIL_1]` and so on, one number for one
value within a request. There a caller's own text that looks like a placeholder is masked too, as `[TEXT_1]`: so a placeholder that a model
sees stands for exactly one value of this request, and a text that only looks like one is never restored to somebody's data.

A failure closes the door: what could not be looked at is not sent.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from gateway.privacy.detect import Span, find
from gateway.privacy.looks import NotScreened, Steps
from tenants.privacy import KINDS, Kind

PLACEHOLDER: Final = re.compile(rf"\[(?:{'|'.join(kind.upper() for kind in KINDS)}|TEXT)_[1-9][0-9]{{0,6}}\]")
MASKED: Final = re.compile(rf"\[(?:{'|'.join(kind.upper() for kind in KINDS)}|TEXT)(?:_[1-9][0-9]{{0,6}})?\]")
"""What can be one, numbered or not."""
BEGINNING: Final = re.compile(r"\[[A-Z_]{0,13}[0-9]{0,7}\Z")
"""Of one, at the end of a text."""
_LONGEST: Final = max(len(f"[{kind}_1234567]") for kind in KINDS)
_EACH_VALUE_BYTES: Final = 400
"""What a value costs in memory beside its characters, at most: two strings and their places in two dictionaries."""


MOST_CHARACTERS: Final = 1024 * 1024
"""Of one request's texts together: that many take seconds. Each text counts as some characters more, for what a short one costs."""
_EACH_TEXT_CHARACTERS: Final = 4
MOST_REMEMBERED_BYTES: Final = 4 * 1024 * 1024
"""Of what stands for what, in one request."""
MOST_GROWN_CHARACTERS: Final = 32 * 1024 * 1024
"""By which one reply becomes longer as it is restored: a model could repeat a placeholder for ever."""


class NotRestored(Exception):
    """What placeholders of the reply stand for cannot be put back into it, so it is not told. Its words are public."""


class Masking(Protocol):
    """What of a `tenants.privacy.Privacy` a screen needs."""

    @property
    def mask(self) -> tuple[Kind, ...]: ...
    @property
    def reversible(self) -> bool: ...
    @property
    def phone_regions(self) -> tuple[str, ...]: ...


class Screen:
    """One request's: it masks its texts and remembers, while the request lives, what stands for what."""

    __slots__ = (
        "_grown",
        "_left",
        "_numbers",
        "_placeholders",
        "_privacy",
        "_values",
        "masked",
        "remembered_bytes",
        "steps",
    )

    def __init__(self, privacy: Masking) -> None:
        self._privacy = privacy
        self._left = MOST_CHARACTERS
        self._grown = 0
        self.steps = Steps()
        self._numbers: Counter[str] = Counter()
        self._placeholders: dict[tuple[str, str], str] = {}
        self._values: dict[str, str] = {}
        self.masked: Counter[Kind] = Counter()
        """How many spans of each kind were replaced."""
        self.remembered_bytes = 0
        """In memory, for what stands for what, at most."""

    @property
    def reversible(self) -> bool:
        return self._privacy.reversible

    @property
    def restores(self) -> bool:
        """Whether a reply can hold a placeholder that stands for something."""
        return bool(self._values)

    def text(self, value: str) -> str:
        """`value` with every span replaced. Raises NotScreened. Long texts take long."""
        self._left -= len(value) + _EACH_TEXT_CHARACTERS
        if self._left < 0:
            raise NotScreened(
                f"more than {MOST_CHARACTERS} characters of text cannot be masked in one request"
            )
        try:
            spans = find(value, self._privacy.mask, self._privacy.phone_regions, self.steps.take)
        except NotScreened:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it closes the door
            # The error's own words may quote the text.
            raise NotScreened(f"personal data could not be looked for: {type(error).__name__}") from None
        pieces, done = list[str](), 0
        for span in spans:
            pieces += (self._literal(value[done : span.start]), self._placeholder(value, span))
            done = span.end
        self.masked.update(span.kind for span in spans)
        return "".join((*pieces, self._literal(value[done:])))

    def restore(self, text: str) -> str:
        """With every placeholder of this request what it stands for; others stay. Raises NotRestored, as its likes below."""
        return self._restored(text, str)

    def restore_json(self, text: str) -> str:
        """The same within the strings of a JSON text: what is put back is escaped, in ASCII."""
        return self._restored(text, escaped)

    def restore_nested_json(self, text: str) -> str:
        """The same within a JSON text that is itself written as a string of JSON, and there."""
        return self._restored(text, _escaped_twice)

    def _restored(self, text: str, written: Callable[[str], str]) -> str:
        def put_back(found: re.Match[str]) -> str:
            value = self._values.get(found[0])
            if value is None:
                return found[0]
            told = written(value)
            self._grown += max(0, len(told) - len(found[0]))
            if self._grown > MOST_GROWN_CHARACTERS:
                raise NotRestored(
                    f"the reply would become longer by more than {MOST_GROWN_CHARACTERS} characters"
                )
            return told

        return PLACEHOLDER.sub(put_back, text) if self._values else text

    def _placeholder(self, value: str, span: Span) -> str:
        label = span.kind.upper()
        return (
            self._numbered(label, value[span.start : span.end]) if self._privacy.reversible else f"[{label}]"
        )

    def _literal(self, text: str) -> str:
        """A caller's text between spans."""
        if not self._privacy.reversible or "_" not in text:
            return text
        return PLACEHOLDER.sub(lambda found: self._numbered("TEXT", found[0]), text)

    def _numbered(self, label: str, value: str) -> str:
        known = self._placeholders.get((label, value))
        if known is not None:
            return known
        self.remembered_bytes += 4 * len(value) + _EACH_VALUE_BYTES
        if self.remembered_bytes > MOST_REMEMBERED_BYTES:
            raise NotScreened("more personal data than can be remembered for one reply")
        self._numbers[label] += 1
        placeholder = f"[{label}_{self._numbers[label]}]"
        if PLACEHOLDER.fullmatch(placeholder) is None:
            raise NotScreened("a request holds at most 9,999,999 values of a kind")
        self._placeholders[label, value] = placeholder
        self._values[placeholder] = value
        return placeholder


def escaped(value: str) -> str:
    """As it stands between the quotes of a JSON string."""
    return json.dumps(value)[1:-1]


def _escaped_twice(value: str) -> str:
    return escaped(escaped(value))


class Restorer:
    """A screen's `restore` for a text that comes in pieces: it holds back only what may be the beginning of a placeholder.

    The pieces that come out, put together, are the restored whole, however it was cut.
    """

    __slots__ = ("_held", "_restore")

    def __init__(self, restore: Callable[[str], str]) -> None:
        """`restore`: the screen's `restore`, or one of its likes."""
        self._restore = restore
        self._held = ""

    @property
    def holds(self) -> bool:
        return bool(self._held)

    def feed(self, piece: str) -> str:
        text = self._held + piece
        beginning = BEGINNING.search(text, max(len(text) - _LONGEST, 0))
        cut = beginning.start() if beginning else len(text)
        self._held = text[cut:]
        return self._restore(text[:cut])

    def end(self) -> str:
        """What was held back; it is no placeholder."""
        held, self._held = self._held, ""
        return held


class BytesRestorer:
    """The same for bytes of UTF-8, cut anywhere."""

    __slots__ = ("_text",)

    def __init__(self, restore: Callable[[str], str]) -> None:
        # Placeholders are ASCII, so bytes are taken for characters one for one and no piece ends within one.
        self._text = Restorer(
            lambda text: PLACEHOLDER.sub(lambda found: restore(found[0]).encode().decode("latin-1"), text)
        )

    @property
    def holds(self) -> bool:
        return self._text.holds

    def feed(self, piece: bytes) -> bytes:
        return self._text.feed(piece.decode("latin-1")).encode("latin-1")

    def end(self) -> bytes:
        return self._text.end().encode("latin-1")

    def whole(self, text: bytes) -> bytes:
        """Of a text that is here as a whole."""
        return text if b"[" not in text else self.feed(text) + self.end()
