"""A privacy: which personal data of a tenant's requests are masked, what of them is kept, and for how long. Pure.

kind: Privacy
name: default
mask: [email, phone, payment_card, iban, national_id]
capture: {sampled: 0.01}
retention_days: {bodies: 90, capture: 7}
"""

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from tenants import names
from tenants.errors import Invalid
from tenants.names import PrivacyName

Kind = Literal["email", "phone", "payment_card", "iban", "national_id"]
"""Of personal data."""
KINDS: Final[tuple[Kind, ...]] = ("email", "phone", "payment_card", "iban", "national_id")
MOST_REGIONS: Final = 50

# Countries and territories with telephone numbers of their own, by ISO 3166-1 alpha-2 and XK for Kosovo, as the package phonenumbers
# knows them: a region that it does not know would mask nothing, and nobody would be told.
_REGIONS: Final = (
    "AC AD AE AF AG AI AL AM AO AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BW BY BZ CA CC CD CF CG CH CI "
    "CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP "
    "GQ GR GT GU GW GY HK HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS "
    "LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF "
    "PG PH PK PL PM PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TA TC TD TG TH TJ "
    "TK TL TM TN TO TR TT TV TW TZ UA UG US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW"
)
REGIONS: Final = frozenset(_REGIONS.split())

Days = Annotated[int, Meta(ge=1, le=3650)]
Region = Annotated[str, Meta(extra_json_schema={"pattern": "^[A-Z]{2}$"})]
Part = Annotated[float, Meta(gt=0, lt=1)]


class Sampled(Struct, frozen=True, forbid_unknown_fields=True):
    """Some requests, chosen by chance."""

    sampled: Part


class Retention(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Days after which something is deleted; `forever`: never."""

    bodies: Days | Literal["forever"] = 90
    """Of audit records. Entries are kept for ever."""
    capture: Days = 7


class Privacy(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="v", tag=1):
    """What its tenants' requests are spared, under a name. One that says nothing masks and captures nothing.

    Stored as JSON, version 1. As of a plan, a row with a field, a kind or a word that the reader does not know is refused, and its
    tenants are not served: to overlook it would be to show what is to be masked. So what comes later reaches every reader before the
    first privacy that has it, and one without it is written without its name; a default is for good. Any other change is version 2.
    """

    name: PrivacyName
    mask: Annotated[tuple[Kind, ...], Meta(max_length=len(KINDS))] = ()
    reversible: bool = False
    """Placeholders in a reply become again what they stand for."""
    phone_regions: Annotated[tuple[Region, ...], Meta(max_length=MOST_REGIONS)] = ()
    """Whose national numbers count, which have no `+`; international ones always do."""
    capture: Literal["off", "on"] | Sampled = "off"
    retention_days: Retention = Retention()

    @property
    def captured_part(self) -> float:
        """Of its requests, 0 to 1."""
        if isinstance(self.capture, Sampled):
            return self.capture.sampled
        return 1.0 if self.capture == "on" else 0.0

    @property
    def bodies_days(self) -> int | None:
        """How old the body of an audit record becomes; None: it is kept for ever."""
        days = self.retention_days.bodies
        return None if isinstance(days, str) else days


def faults(privacy: Privacy) -> Iterator[Invalid]:
    """What is wrong with it beyond the types of its fields, each with the path to it."""
    yield from names.PRIVACY.new_faults(privacy.name, "name")
    for path, said in (("mask", privacy.mask), ("phone_regions", privacy.phone_regions)):
        yield from (Invalid(path, f"names {it!r} twice") for it, many in Counter(said).items() if many > 1)
    if privacy.phone_regions and "phone" not in privacy.mask:
        yield Invalid("phone_regions", "is about telephone numbers, and `mask` has no phone")
    for position, region in enumerate(privacy.phone_regions):
        if region not in REGIONS:
            yield Invalid(
                f"phone_regions[{position}]", f'must be a country of ISO 3166-1, as "US"; {region!r} is none'
            )
