"""Check digits of schemes that stdnum does not have. Each takes the number as it is written. Pure."""

import re
from typing import Final

_NINO: Final = re.compile(r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][0-9]{6}[A-D]")
_TAIWAN: Final = "ABCDEFGHJKLMNPQRSTUVXYWZIO"
_SINGAPORE: Final = {
    "S": "JZIHGFEDCBA",
    "T": "GFEDCBAJZIH",
    "F": "XWUTRQPNMLK",
    "G": "TRQPNMLKXWU",
    "M": "KLJNPQRTUWX",
}


def _weighed(digits: str, weights: tuple[int, ...]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def _compact(number: str) -> str:
    return re.sub(r"[^0-9A-Za-z]", "", number).upper()


def gb_nino(number: str) -> bool:
    """National Insurance number: no check digit, but prefixes that are never given (HMRC manual NIM39110)."""
    return _NINO.fullmatch(_compact(number)) is not None


def au_medicare(number: str) -> bool:
    digits = _compact(number)
    return digits[0] in "23456" and _weighed(digits, (1, 3, 7, 9, 1, 3, 7, 9)) % 10 == int(digits[8])


def lv_pk(number: str) -> bool:
    """Personas kods, of those that tell a birth date."""
    digits = _compact(number)
    if not ("01" <= digits[:2] <= "31" and "01" <= digits[2:4] <= "12" and digits[6] in "012"):
        return False
    return (1101 - _weighed(digits, (1, 6, 3, 7, 9, 10, 5, 8, 4, 2))) % 11 == int(digits[10])


def hu_taj(number: str) -> bool:
    digits = _compact(number)
    return _weighed(digits, (3, 7, 3, 7, 3, 7, 3, 7)) % 10 == int(digits[8])


def ru_snils(number: str) -> bool:
    digits = _compact(number)
    return _weighed(digits, (9, 8, 7, 6, 5, 4, 3, 2, 1)) % 101 % 100 == int(digits[9:])


def sg_nric(number: str) -> bool:
    number = _compact(number)
    total = _weighed(number[1:8], (2, 7, 6, 5, 4, 3, 2)) + (3 if number[0] == "M" else 0)
    rest = total % 11
    return _SINGAPORE[number[0]][10 - rest if number[0] == "M" else rest] == number[8]


def tw_id(number: str) -> bool:
    number = _compact(number)
    first = 10 + _TAIWAN.index(number[0])
    return (first // 10 + first % 10 * 9 + _weighed(number[1:], (8, 7, 6, 5, 4, 3, 2, 1, 1))) % 10 == 0


def hk_id(number: str) -> bool:
    number = _compact(number)
    letters = number[:-7]
    values = [36, *map(_letter, letters)] if len(letters) == 1 else [*map(_letter, letters)]
    total = sum(
        value * weight
        for value, weight in zip([*values, *map(int, number[-7:-1])], range(9, 1, -1), strict=True)
    )
    check = 10 if number[-1] == "A" else int(number[-1])
    return (total + check) % 11 == 0


def _letter(letter: str) -> int:
    return ord(letter) - 55
