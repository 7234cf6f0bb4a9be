"""Names of keys in AWS KMS, of where it is, and who may have a key of their own. Pure.

A key has its ARN, which says its region; an alias is none, as somebody could point it elsewhere.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Final

from msgspec import Meta

from tenants.errors import Invalid

FORM: Final = "the ARN of a KMS key, as arn:aws:kms:eu-west-1:111122223333:key/1234abcd-..., and of no alias"
_ARN: Final = re.compile(
    r"arn:aws(?:-[a-z]{1,10}){0,3}:kms:([a-z]{2,8}(?:-[a-z]{1,12}){1,3}-[0-9]{1,2}):[0-9]{12}:key/[A-Za-z0-9-]{1,128}"
)
NONE: Final = "none"
"""What a document says that takes its key from a tenant."""
OwnKey = Annotated[str, Meta(extra_json_schema={"pattern": f"^(?:{_ARN.pattern}|{NONE})$"})]
"""A tenant's, as a document has it. An editor is told the form; a reader of values says more than a pattern that was not met."""
NO_KMS: Final = (
    "this gateway wraps data keys with a key file, which no KMS key of a tenant's can take the place of: set keys.kms_key, and name the "
    "configuration that has it with --config"
)
_ENDPOINT: Final = re.compile(
    r"(?:https://[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|http://(?:127\.0\.0\.1|\[::1\]|localhost))(?::[0-9]{1,5})?/?"
)


def region(arn: str) -> str | None:
    """The region that the ARN of a key names; None for what is none."""
    found = _ARN.fullmatch(arn)
    return found[1] if found else None


def faults(arn: str, path: str) -> Iterator[Invalid]:
    """Why this is no key that a tenant can have."""
    if region(arn) is None:
        yield Invalid(path, f"must be {FORM}")


def own_faults(arn: str | None, before: str | None, path: str, *, has_kms: bool) -> Iterator[Invalid]:
    """Why it cannot be a tenant's own key from now on; None: it has none any more. What it is already stays, whatever the gateway has."""
    if arn is not None and arn != before:
        yield from faults(arn, path)
        if not has_kms:
            yield Invalid(path, NO_KMS)


def is_endpoint(url: str) -> bool:
    """Whether KMS may be asked there: over TLS, or on loopback."""
    return _ENDPOINT.fullmatch(url) is not None
