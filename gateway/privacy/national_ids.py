# ruff: noqa: RUF001 - letters of many scripts are meant
"""Numbers of persons: how each is written, what proves it, and how much else it takes to believe it.

Pure, but that stdnum knows today's date.

A scheme has shapes. Of digits alone: `9` stands for a digit, the rest for itself. How much is asked of what stands around a shape:

- ALONE: nothing, as its form and its check digits are rare together (fewer than one random number in a hundred of that form);
- TOLD: a word that says it is a number of a person, or the scheme's own;
- NAMED: the scheme's own word, as one random number in ten passes.

Whatever is asked, a number that is plainly called something else (an order's, a phone's) is not one.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Final, Literal, NamedTuple

from stdnum.ar import cuit
from stdnum.ar import dni as dni_ar
from stdnum.at import vnr
from stdnum.au import tfn
from stdnum.be import ssn as ssn_be
from stdnum.bg import egn
from stdnum.br import cpf
from stdnum.ca import sin
from stdnum.ch import ssn as ahv
from stdnum.cl import rut
from stdnum.cn import ric
from stdnum.cr import cpf as cedula_cr
from stdnum.cu import ni
from stdnum.cz import rc
from stdnum.de import idnr
from stdnum.dk import cpr
from stdnum.do import cedula
from stdnum.ec import ci
from stdnum.ee import ik
from stdnum.eg import tn
from stdnum.es import dni, nie
from stdnum.fi import hetu
from stdnum.fr import nif as spi
from stdnum.fr import nir
from stdnum.gb import nhs, utr
from stdnum.gr import amka
from stdnum.hr import oib
from stdnum.id import nik
from stdnum.ie import pps
from stdnum.il import idnr as idnr_il
from stdnum.in_ import aadhaar, pan
from stdnum.is_ import kennitala
from stdnum.it import codicefiscale
from stdnum.jp import in_ as my_number
from stdnum.kr import rrn
from stdnum.lt import asmens
from stdnum.mx import curp, rfc
from stdnum.my import nric
from stdnum.nl import bsn
from stdnum.no import fodselsnummer
from stdnum.nz import ird
from stdnum.pk import cnic
from stdnum.pl import pesel
from stdnum.pt import cc, nif
from stdnum.ro import cnp
from stdnum.ru import inn
from stdnum.se import personnummer
from stdnum.si import emso
from stdnum.th import pin
from stdnum.tr import tckimlik
from stdnum.ua import rntrc
from stdnum.us import itin, ssn
from stdnum.za import idnr as idnr_za

from gateway.privacy import checks

Asked = Literal["alone", "told", "named"]
ALONE: Final = "alone"
TOLD: Final = "told"
NAMED: Final = "named"


class Scheme(NamedTuple):
    """One country's numbers of persons: `shapes` by what is asked of each; `valid` takes the number as it is written."""

    valid: Callable[[str], bool]
    words: str
    """A regular expression of what the scheme is called, lower case."""
    alone: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    named: tuple[str, ...] = ()


SCHEMES: Final[Mapping[str, Scheme]] = {
    "us_ssn": Scheme(
        ssn.is_valid, r"ssn\b|soc\w*.?\s?sec", ("999-99-9999",), ("999 99 9999",), ("999999999",)
    ),
    "us_itin": Scheme(itin.is_valid, r"itin\b|taxpayer", ("999-99-9999",), ("999 99 9999",), ("999999999",)),
    "gb_nhs": Scheme(
        nhs.is_valid, r"nhs|health", named=("999 999 9999", "999-999-9999", "9999999999", "999-999 9999")
    ),
    "gb_utr": Scheme(utr.is_valid, r"utr\b|unique tax|tax ref", named=("9999999999", "99999 99999")),
    "de_idnr": Scheme(
        idnr.is_valid,
        r"steuer|idnr|tax",
        ("99999999999", "99 999 999 999", "99 999 999999", "99-999-999-999", "99/999/999/999"),
    ),
    "fr_nir": Scheme(
        nir.is_valid,
        r"nir\b|s[ée]cu|insee",
        (
            *("999999999999999", "9999999999999 99", "9 99 99 99 999 999 99", "9.99.99.99.999.999.99"),
            *(
                "9-99-99-99-999-999-99",
                "9 99 99 99999 999 99",
                "9 99 99 99 999 999-99",
                "9 99 99 99 999999 99",
            ),
        ),
    ),
    "fr_spi": Scheme(spi.is_valid, r"fisc|spi\b", named=("9999999999999", "99 99 999 999 999")),
    "nl_bsn": Scheme(
        bsn.is_valid,
        r"bsn|burgerservice|sofi|citizen service",
        named=(
            "999999999",
            "9999 99 999",
            "9999.99.999",
            "999 999 999",
            "999.999.999",
            "99999999",
            "9999-99-999",
            "999-999-999",
        ),
    ),
    "be_nn": Scheme(
        ssn_be.is_valid,
        r"rijksreg|registre|niss|insz|national",
        (
            *("99999999999", "99.99.99-999.99", "99 99 99 999 99", "99.99.99 999 99", "99.99.99-999-99"),
            *("99.99.99.999.99", "999999-999-99", "999999 999 99", "99-99-99-999-99", "99.99.99-99999"),
        ),
    ),
    "pl_pesel": Scheme(pesel.is_valid, r"pesel", told=("99999999999", "999999 99999", "999999-99999")),
    "pt_nif": Scheme(
        nif.is_valid, r"nif|contribuinte|fiscal", named=("999999999", "999 999 999", "999.999.999")
    ),
    "se_pnr": Scheme(
        personnummer.is_valid,
        r"personn|pers\.?\s?nr|pnr|samordn|personal (?:id|number)",
        ("999999-9999", "99999999-9999"),
        ("999999999999", "99999999 9999"),
        ("9999999999", "999999 9999"),
    ),
    "dk_cpr": Scheme(
        cpr.is_valid, r"cpr|personn", told=("999999-9999",), named=("9999999999", "999999 9999")
    ),
    "cz_rc": Scheme(
        rc.is_valid,
        r"rodn|r\.?\s?[čc]\b|birth",
        ("999999/9999",),
        ("999999/999",),
        ("9999999999", "999999 9999"),
    ),
    "ro_cnp": Scheme(cnp.is_valid, r"cnp|cod numeric", ("9999999999999",), ("9 999999 999999",)),
    "tr_tckn": Scheme(
        tckimlik.is_valid, r"tckn|t\.?\s?c\.?\b|kimlik", told=("99999999999", "999 999 999 99")
    ),
    "br_cpf": Scheme(
        cpf.is_valid,
        r"cpf|cadastro",
        ("999.999.999-99", "999999999-99"),
        ("99999999999", "999 999 999 99", "999 999 999-99"),
    ),
    "cl_rut": Scheme(
        rut.is_valid,
        r"rut\b|run\b|rol ",
        ("99.999.999-9", "9.999.999-9"),
        ("99999999-9",),
        ("9999999-9", "999999999"),
    ),
    "ar_cuit": Scheme(
        cuit.is_valid, r"cui[tl]", ("99-99999999-9",), ("99-99.999.999-9",), ("99999999999", "99 99999999 9")
    ),
    "ar_dni": Scheme(dni_ar.is_valid, r"dni|documento", named=("99.999.999",)),
    "in_aadhaar": Scheme(
        aadhaar.is_valid,
        r"aadha|आधार|uid",
        told=("9999 9999 9999", "9999-9999-9999"),
        named=("999999999999",),
    ),
    "cn_ric": Scheme(
        ric.is_valid,
        r"身份|身分|ric\b",
        ("999999999999999999", "999999 99999999 9999", "999999 9999 9999 9999", "999999-99999999-9999"),
    ),
    "kr_rrn": Scheme(
        rrn.is_valid,
        r"주민|외국인|rrn|resident",
        ("999999-9999999",),
        ("999999 9999999",),
        ("9999999999999",),
    ),
    "za_id": Scheme(
        idnr_za.is_valid,
        r"south africa",
        ("9999999999999", "999999 9999 999", "999999 9999 99 9", "999999 9999 9 99"),
    ),
    "ca_sin": Scheme(
        sin.is_valid,
        r"sin\b|social ins|nas\b|assurance sociale",
        named=("999 999 999", "999-999-999", "999999999"),
    ),
    "au_tfn": Scheme(
        tfn.is_valid, r"tfn|tax file", named=("999 999 999", "999999999", "99999999", "999-999-999")
    ),
    "au_medicare": Scheme(
        checks.au_medicare,
        r"medicare",
        named=(
            "9999999999",
            "9999 99999 9",
            "9999-99999-9",
            "99999999999",
            "9999 99999 9 9",
            "9999 99999 9-9",
        ),
    ),
    "jp_my": Scheme(
        my_number.is_valid,
        r"マイナンバー|個人番号|my ?number|individual n",
        named=("999999999999", "9999 9999 9999", "9999-9999-9999"),
    ),
    "ch_ahv": Scheme(ahv.is_valid, r"ahv|avs", ("999.9999.9999.99", "9999999999999", "999 9999 9999 99")),
    "at_vnr": Scheme(
        vnr.is_valid,
        r"sozialv|sv.?n|svnr|vsnr|versicherung",
        told=("9999 999999", "9999-999999", "9999 99 99 99"),
        named=("9999999999",),
    ),
    "bg_egn": Scheme(egn.is_valid, r"егн|egn", named=("9999999999",)),
    "ee_ik": Scheme(ik.is_valid, r"isikukood|estoni", told=("99999999999",)),
    "lt_ak": Scheme(asmens.is_valid, r"asmens|lithuan", told=("99999999999",)),
    "lv_pk": Scheme(checks.lv_pk, r"personas|latvia", told=("999999-99999",), named=("99999999999",)),
    "gr_amka": Scheme(amka.is_valid, r"αμκα|α\.μ\.κ\.α|amka", told=("99999999999",)),
    "hr_oib": Scheme(oib.is_valid, r"oib", named=("99999999999",)),
    "hu_taj": Scheme(checks.hu_taj, r"taj\b", named=("999 999 999", "999-999-999", "999999999")),
    "il_id": Scheme(
        idnr_il.is_valid,
        r"ת\.?\s?[\"']?ז|זהות|teudat|israel",
        named=("999999999", "99999999-9", "9-9999999-9", "9 9999999 9"),
    ),
    "is_kt": Scheme(
        kennitala.is_valid, r"kennitala|kt\b", ("999999-9999",), named=("9999999999", "999999 9999")
    ),
    "no_fnr": Scheme(
        fodselsnummer.is_valid, r"f[øo]dsels|personn|d-n", ("99999999999", "999999 99999", "999999-99999")
    ),
    "my_nric": Scheme(
        nric.is_valid,
        r"nric|mykad|pengenalan|ic n",
        ("999999-99-9999",),
        ("999999 99 9999",),
        ("999999999999",),
    ),
    "nz_ird": Scheme(
        ird.is_valid, r"ird\b|inland", named=("99-999-999", "999-999-999", "99999999", "999999999")
    ),
    "pk_cnic": Scheme(cnic.is_valid, r"cnic", ("99999-9999999-9",), named=("9999999999999",)),
    "th_pin": Scheme(
        pin.is_valid, r"เลข|บัตร|thai", ("9-9999-99999-99-9", "9 9999 99999 99 9"), ("9999999999999",)
    ),
    "ua_rntrc": Scheme(rntrc.is_valid, r"рнокпп|[іи][нп]н|іпн|ідентиф|rntrc", named=("9999999999",)),
    "ec_ci": Scheme(ci.is_valid, r"c[ée]dula|ci\b", named=("9999999999", "999999999-9")),
    "do_cedula": Scheme(cedula.is_valid, r"c[ée]dula", ("999-9999999-9",), named=("99999999999",)),
    "cr_cedula": Scheme(cedula_cr.is_valid, r"c[ée]dula", named=("9-9999-9999", "99-9999-9999")),
    "cu_ni": Scheme(ni.is_valid, r"carn[ée] de identidad", named=("99999999999",)),
    "eg_tn": Scheme(tn.is_valid, r"القومي|egypt", told=("99999999999999",)),
    "id_nik": Scheme(nik.is_valid, r"nik\b|ktp", named=("9999999999999999",)),
    "ru_inn": Scheme(inn.is_valid, r"инн|inn\b", named=("999999999999",)),
    "ru_snils": Scheme(
        checks.ru_snils,
        r"снилс|snils",
        ("999-999-999 99", "999-999-999-99"),
        named=("99999999999", "999 999 999 99"),
    ),
    "yu_jmbg": Scheme(emso.is_valid, r"jmbg|em[šs]o|mati[čc]ni", ("9999999999999",)),
}


class Lettered(NamedTuple):
    """A scheme with letters: `written` is matched, whatever the case, `before` characters before its first digit."""

    before: int
    written: re.Pattern[str]
    valid: Callable[[str], bool]
    asked: Asked = ALONE
    words: str = "."


def _lettered(
    before: int, written: str, valid: Callable[[str], bool], asked: Asked = ALONE, words: str = "."
) -> Lettered:
    return Lettered(before, re.compile(rf"{written}(?![A-Za-z0-9])", re.IGNORECASE), valid, asked, words)


def _person(number: str) -> bool:
    """Of a permanent account number: its fourth letter says whose it is."""
    return pan.is_valid(number) and number[3] in "Pp"


def _rfc(number: str) -> bool:
    return rfc.is_valid(number, validate_check_digits=True)


LETTERED: Final[tuple[Lettered, ...]] = (
    _lettered(0, r"[0-9]{8}[ -]?[A-Z]|[0-9]{1,2}\.[0-9]{3}\.[0-9]{3}[ -]?[A-Z]", dni.is_valid),
    _lettered(1, r"[XYZ][0-9]{7}[ -]?[A-Z]", nie.is_valid),
    _lettered(2, r"[XYZ][ -][0-9]{7}[ -]?[A-Z]", nie.is_valid),
    _lettered(
        6,
        r"[A-Z]{6}[0-9LMNPQRSTUV]{2}[A-Z][0-9LMNPQRSTUV]{2}[A-Z][0-9LMNPQRSTUV]{3}[A-Z]",
        codicefiscale.is_valid,
    ),
    _lettered(
        7,
        r"[A-Z]{3} [A-Z]{3} [0-9]{2}[A-Z][0-9]{2} [A-Z][0-9]{3}[A-Z]",
        lambda number: codicefiscale.is_valid(number.replace(" ", "")),
    ),
    _lettered(
        2,
        r"[A-Z]{2}(?:[0-9]{6}|[0-9]{2} [0-9]{2} [0-9]{2}|[0-9]{2}-[0-9]{2}-[0-9]{2})[ -]?[A-D]",
        checks.gb_nino,
    ),
    _lettered(
        3,
        r"[A-Z]{2}[ -](?:[0-9]{6}|[0-9]{2} [0-9]{2} [0-9]{2}|[0-9]{2}-[0-9]{2}-[0-9]{2})[ -]?[A-D]",
        checks.gb_nino,
    ),
    _lettered(4, r"[A-Z]{4}[0-9]{6}[HMX][A-Z]{5}[0-9A-Z][0-9]", curp.is_valid),
    _lettered(4, r"[A-Z&Ñ]{4}[0-9]{6}[0-9A-Z]{3}", _rfc),
    _lettered(5, r"[A-Z]{3}P[A-Z][0-9]{4}[A-Z]", _person),
    _lettered(0, r"[0-9]{7}[A-W][A-IW]?", pps.is_valid, NAMED, r"pps|personal public"),
    _lettered(0, r"[0-9]{6}[-+A-FU-Y][0-9]{3}[0-9A-Z]", hetu.is_valid),
    _lettered(0, r"[0-9]{6}[ ]?[0-9]{8}[ ]?[0-9]{3}X", ric.is_valid),
    _lettered(0, r"[12][ ]?[0-9]{2}[ ]?[0-9]{2}[ ]?2[AB][ ]?[0-9]{3}[ ]?[0-9]{3}[ ]?[0-9]{2}", nir.is_valid),
    _lettered(0, r"[0-9]{1,2}\.?[0-9]{3}\.?[0-9]{3}-K", rut.is_valid),
    _lettered(0, r"[0-9]{8}[ ]?[0-9][ ]?[A-Z0-9]{2}[0-9]", cc.is_valid, TOLD),
    _lettered(0, r"[0-9]{6}\+[0-9]{4}", personnummer.is_valid),
    _lettered(1, r"[STFGM][0-9]{7}[A-Z]", checks.sg_nric),
    _lettered(1, r"[A-Z][1289][0-9]{8}", checks.tw_id),
    _lettered(1, r"[A-Z][0-9]{6}\([0-9A]\)", checks.hk_id),
    _lettered(2, r"[A-Z]{2}[0-9]{6}\([0-9A]\)", checks.hk_id),
)


class Shaped(NamedTuple):
    """Of one shape of digits: the schemes that are written so, with what each asks, least first, and all that they are called."""

    schemes: tuple[tuple[Scheme, Asked], ...]
    words: re.Pattern[str]


@cache
def by_shape() -> Mapping[str, Shaped]:
    found: dict[str, list[tuple[Scheme, Asked]]] = {}
    for scheme in SCHEMES.values():
        for shape, asked in _shapes(scheme):
            found.setdefault(shape, []).append((scheme, asked))
    order = (ALONE, TOLD, NAMED)
    return {
        shape: Shaped(
            tuple(sorted(schemes, key=lambda one: order.index(one[1]))),
            own_words(
                "|".join(f"(?:{scheme.words})" for scheme, asked in schemes if asked != ALONE) or r"\b\B"
            ),
        )
        for shape, schemes in found.items()
    }


def _shapes(scheme: Scheme) -> Iterator[tuple[str, Asked]]:
    for shape in scheme.alone:
        yield shape, ALONE
    for shape in scheme.told:
        yield shape, TOLD
    for shape in scheme.named:
        yield shape, NAMED


@cache
def own_words(words: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![a-zà-ž])(?:{words})")
