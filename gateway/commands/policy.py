"""`gateway policy`: what the policies say, why, and whether they are whole. Needs no gateway that runs.

Exit codes: 0 allowed or whole, 1 denied or faulty, 64 wrong usage. The work is in `decisions`, which these load when they run.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final, get_args

from gateway.authz.questions import Action
from gateway.commands.command import Argument, Command, argument, one_of
from gateway.settings import Settings
from tenants.members import ROLES
from tenants.ports import CallerRole, PlatformAction, TenantAction


async def _check(settings: Settings, given: argparse.Namespace) -> int:
    from gateway.commands import decisions

    return await decisions.check(settings, given)


async def _validate(settings: Settings, given: argparse.Namespace) -> int:
    from gateway.commands import decisions

    return await decisions.validate(settings, given)


async def _test(settings: Settings, given: argparse.Namespace) -> int:
    from gateway.commands import decisions

    return await decisions.test(settings, given)


_ACTIONS: Final = tuple(
    dict.fromkeys((*get_args(Action), *get_args(PlatformAction), *get_args(TenantAction)))
)
_POLICIES: Final = argument(
    "--policies", type=Path, metavar="DIR", help="the folder of the policies (default: that of the settings)"
)
_WHO: Final = one_of(
    argument("--key", metavar="KEY", help="who asks: whoever holds the key with this id (k_...)"),
    argument("--tenant", metavar="T", help="who asks: whoever is of this tenant"),
    argument("--operator", action="store_true", help="who asks: an operator"),
)
_ROLES: Final[Sequence[str]] = [it for it in get_args(CallerRole) if it != "operator"]
_ARGUMENTS: Final[tuple[Argument, ...]] = (
    _WHO,
    argument(
        "--role", choices=_ROLES, help="with --tenant or --operator: in which role (default: none; operator)"
    ),
    argument(
        "--action",
        required=True,
        metavar="A",
        choices=_ACTIONS,
        help="what for: " + ", ".join(_ACTIONS),
    ),
    argument("--model", metavar="M", help="on what: the model, of discover, infer and describe"),
    argument("--on", metavar="T", help="on what: the tenant, of the other actions (default: their own)"),
    argument("--gives", choices=ROLES, help="of issue and revoke: the role of the key at hand"),
    argument("--widens", action="store_true", help="of issue and revoke: that key is for more models"),
    argument(
        "--loosens",
        action="store_true",
        help="of issue, revoke and empower: that key lasts longer than the caller's, or is bound to less",
    ),
    argument("--hastens", action="store_true", help="of destroy: it can be taken back for less than a day"),
    argument("--reason", default="", metavar="TEXT", help="the caller says why"),
    _POLICIES,
)

COMMANDS: Final = (
    Command(
        "check",
        "may they, and which policies say so?",
        _check,
        _ARGUMENTS,
        "--tenant acme --role viewer --action infer --model digits",
    ),
    Command("validate", "are the policies whole?", _validate, (_POLICIES,), "--policies policies"),
    Command("test", "do the policies decide as their cases say?", _test, (_POLICIES,), "--policies policies"),
)
