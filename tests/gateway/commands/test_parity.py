"""Whatever the control API can do, the command line can, and the other way round: three thin doors, none with more than the others."""

import pytest

from tenants.api.routes import OPERATIONS
from tenants.catalogue import plural
from tests.gateway.commands.test_declared import ALL, parser_of

SHELVES = (
    ("Plan", "plans"),
    ("Privacy", "privacies"),
    ("Model", "models"),
    ("Fleet", "fleet"),
    ("Issuer", "issuers"),
)

# Operation to the command that does the same, with the option that makes it that one and no other.
SAME = {
    "listTenants": "tenants list",
    "createTenant": "tenants create",
    "showTenant": "tenants show",
    "changeTenant": "tenants move",
    "suspendTenant": "tenants suspend",
    "resumeTenant": "tenants resume",
    "closeTenant": "tenants close",
    "reopenTenant": "tenants reopen",
    "showTenantIssuers": "tenants issuers",
    "changeTenantIssuers": "tenants trust",
    "showTenantCertificates": "certificates list",
    "changeTenantCertificates": "certificates add",
    "showTenantRestrictions": "tenants show",
    "putTenantRestrictions": "tenants restrict",
    "deleteTenantRestrictions": "tenants unrestrict",
    "showTenantPlan": "plans show",  # a tenant may not ask for every plan, an operator may
    "showTenantPrivacy": "privacies show",
    "listTenantModels": "models list --tenant",
    "listTenantAudit": "audit events --tenant",
    "listAudit": "audit events",
    "listTenantUsage": "usage --tenant --by --from --to --key --model",
    "inviteMember": "members invite",
    "createAccount": "accounts create",
    **{f"{deed}Member": f"members {deed}" for deed in ("show", "change", "remove")},
    **{f"{deed}Account": f"accounts {deed}" for deed in ("show", "change", "remove")},
    "listMembers": "members list",
    "listAccounts": "accounts list",
    "listKeys": "keys list --tenant",
    "listOperatorKeys": "keys list --operator",
    **{f"{deed}Key": f"keys {deed} --tenant" for deed in ("create", "show", "rotate", "revoke")},
    **{f"{deed}OperatorKey": f"keys {deed} --operator" for deed in ("create", "show", "rotate", "revoke")},
    "listDataKeys": "data-keys list",
    **{f"{deed}DataKey": f"data-keys {deed} --tenant" for deed in ("show", "rewrap", "destroy", "keep")},
    "rotateDataKey": "data-keys rotate --tenant --purpose",
    "reportLeak": "keys revoke --by-secret --and-made",
    **{f"list{plural(kind).title()}": f"{noun} list" for kind, noun in SHELVES},
    **{f"{deed}{kind}": f"{noun} {deed}" for kind, noun in SHELVES for deed in ("show", "put", "delete")},
}
NO_COMMAND = {
    "whoami": "who types a command is the unix user",
    "showAuditKeys": "who types a command reads the log itself: audit show",
}
# Commands of the gateway itself have one word, as `serve`. Of those with two the API has not:
NO_OPERATION = {
    "audit show": "tenants get the keys of their own records, and open them by themselves",
    "audit verify": "tenants check the log of their calls by themselves",
    **dict.fromkeys(
        ("captures list", "captures show", "captures delete"),
        "what is captured is for whoever has the gateway's host: no API shows it",
    ),
    "issuers check": "whoever holds a token asks whoami",
    **dict.fromkeys(("tenants protect", "tenants unprotect"), "changeTenant says its privacy too"),
    **dict.fromkeys(
        ("key-file create", "key-file add", "key-file check"), "the key file is one of the gateway's host"
    ),
    "tenants kms-key": "changeTenant says its KMS key too",
    **dict.fromkeys(
        ("data-keys backup", "data-keys restore"), "the wrapped keys are files of the gateway's host"
    ),
    "tenants distrust": "changeTenantIssuers leaves it out",
    "certificates remove": "changeTenantCertificates leaves it out",
    **dict.fromkeys(
        ("policy check", "policy validate", "policy test"), "the policies are files of the gateway's host"
    ),
}


def test_every_operation_of_the_api_has_its_command() -> None:
    missing = {it.id for it in OPERATIONS} - SAME.keys() - NO_COMMAND.keys()
    assert not missing, f"operations without a command: {sorted(missing)}; give each one, and a line in SAME"
    gone = (SAME.keys() | NO_COMMAND.keys()) - {it.id for it in OPERATIONS}
    assert not gone, f"the API has these no more: {sorted(gone)}"


def test_every_command_over_the_directory_has_its_operation() -> None:
    known = {" ".join(line.split()[:2]) for line in SAME.values()} | NO_OPERATION.keys()
    more = {" ".join(words) for words in ALL if len(words) == 2} - known
    assert not more, (
        f"commands without an operation: {sorted(more)}; give each one, or a reason in NO_OPERATION"
    )


@pytest.mark.parametrize(("operation", "line"), SAME.items(), ids=str)
def test_a_command_is_there_with_what_its_operation_takes(operation: str, line: str) -> None:
    noun, *rest = line.split()
    verbs, needed = [it for it in rest if it[0] != "-"], [it for it in rest if it[0] == "-"]
    told = parser_of((noun, *verbs)).format_help()
    (found,) = [it for it in OPERATIONS if it.id == operation]
    needed += ["--limit", "--after"] if found.is_list else []
    needed += ["--reason"] if found.is_change else []
    needed += (
        ["--tenant"] if "tenant" in found.names and noun not in ("tenants", "plans", "privacies") else []
    )
    assert all(option in told for option in needed), needed
