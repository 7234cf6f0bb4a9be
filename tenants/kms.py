"""Names of keys in AWS KMS, and of where it is. Pure.

A key has its ARN, which says its region; an alias is none, as somebody could point it elsewhere.
"""

import re
from typing import Final

FORM: Final = "the ARN of a KMS key, as arn:aws:kms:eu-west-1:111122223333:key/1234abcd-..., and of no alias"
_ARN: Final = re.compile(
    r"arn:aws(?:-[a-z]{1,10}){0,3}:kms:([a-z]{2,8}(?:-[a-z]{1,12}){1,3}-[0-9]{1,2}):[0-9]{12}:key/[A-Za-z0-9-]{1,128}"
)
_ENDPOINT: Final = re.compile(
    r"(?:https://[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|http://(?:127\.0\.0\.1|\[::1\]|localhost))(?::[0-9]{1,5})?/?"
)


def region(arn: str) -> str | None:
    """The region that the ARN of a key names; None for what is none."""
    found = _ARN.fullmatch(arn)
    return found[1] if found else None


def is_endpoint(url: str) -> bool:
    """Whether KMS may be asked there: over TLS, or on loopback."""
    return _ENDPOINT.fullmatch(url) is not None
