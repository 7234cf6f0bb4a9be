"""Payment cards: issuers' ranges, lengths, and Luhn's digit. Pure.

The ranges are those that the networks publish; a number of another network is not found. Written without gaps, in fours, or as the network
prints it. A length that other numbers share (12 to 15 and 17 to 19 digits, but for American Express)
takes a word beside it, or the network's own grouping.
"""

import re
from typing import Final

from stdnum import luhn

from gateway.privacy.runs import Run
from gateway.privacy.words import Around

_ISSUERS: Final = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})"  # Visa
    r"|(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}"  # Mastercard
    r"|3[47][0-9]{13}"  # American Express
    r"|3(?:0[0-5]|095|[68][0-9]|9[0-9])[0-9]{11,16}"  # Diners Club
    r"|(?:6011|64[4-9][0-9]|65[0-9]{2})[0-9]{12,15}"  # Discover
    r"|(?:352[89]|35[3-8][0-9])[0-9]{12,15}"  # JCB
    r"|(?:62|81)[0-9]{14,17}"  # UnionPay
    r"|(?:50[0-9]{2}|5[6-8][0-9]{2}|6304|6759|676[1-3]|6390|67[0-9]{2})[0-9]{8,15}"  # Maestro, Dankort, Verve, RuPay, Elo
    r"|220[0-4][0-9]{12,15}"  # Mir
    r"|(?:60|82)[0-9]{14}"  # RuPay, Hipercard
    r"|9792[0-9]{12}"  # Troy
)
_FEWEST, _MOST = 12, 19  # digits
_FOUR: Final = 4
_LIKE_PLAIN: Final = re.compile(r"[0-9]{16}|3[47][0-9]{13}")
_GROUPINGS: Final = frozenset(
    (
        *(
            "9999 9999 9999 9999",
            "9999 999999 99999",
            "9999 999999 9999",
            "9999 9999 9999 9999 999",
            "9999 9999 9999 999",
        ),
        *(
            "9999 9999 9999 99",
            "9999 9999 9999 9",
            "9999 9999 9999",
            "999999 9999999999999",
            "9999 9999 9999 9999 99",
        ),
        *(
            "99999999 99999999",
            "9999 9999 9999 99999",
            "999999 9999999999",
            "9999 999 999 999",
            "9999 99999999 9999",
        ),
    )
)
_AS_PRINTED: Final = (
    "9999 9999 9999 9999",
    "9999 999999 99999",
    "9999 999999 9999",
    "9999 9999 9999 9999 999",
)


def is_card(run: Run, first: int, last: int) -> bool:
    """Whether the window of the run is a card's number."""
    shape = run.shape_of(first, last)
    if not _FEWEST <= len(shape) - last + first <= _MOST:
        return False
    for joint in "-.":
        shape = shape.replace(joint, " ") if " " not in shape else shape
    if first != last and shape not in _GROUPINGS:
        return False
    digits = run.digits_of(first, last)
    if _ISSUERS.fullmatch(digits) is None or not luhn.is_valid(digits):
        return False
    # What follows in fours makes it a table of numbers; what follows else is a date or a code.
    around = Around(run.text, run.starts[first], run.ends[last])
    if around.denied:
        return False
    plain = _LIKE_PLAIN.fullmatch(digits) is not None
    return plain or shape in _AS_PRINTED or around.topic == "card"


def may_start(run: Run, first: int, last: int) -> bool:
    """Whether the window is bounded as a card's number is: behind it may come its date and its code, in shorter groups."""
    starts, ends = run.starts, run.ends
    if first == 0:
        if run.joined_before():
            return False
    elif " " not in run.text[ends[first - 1] : starts[first]] or (
        first != last and ends[first - 1] - starts[first - 1] >= _FOUR
    ):
        return False
    if last == len(starts) - 1:
        return not run.joined_after()
    return " " in run.text[ends[last] : starts[last + 1]] and (
        first == last or ends[last + 1] - starts[last + 1] < _FOUR
    )
