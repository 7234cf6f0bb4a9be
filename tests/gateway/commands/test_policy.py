"""`gateway policy`: it answers as a gateway would, names what decided, and its exit code tells a program."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import policies
from gateway import cli

FOLDER = Path(policies.__file__).parent
DOCUMENTS = """
kind: Fleet
name: local
---
kind: Plan
name: team
weight: 1
limits: {body_bytes: 10}
---
kind: Model
name: digits
repository: models
tenants: [acme]
region: eu-west
---
kind: Model
name: story
repository: models
tenants: "*"
---
kind: Model
name: ledger
repository: models
tenants: [globex]
---
kind: Tenant
name: acme
plan: team
---
kind: Tenant
name: globex
plan: team
"""

Said = Callable[..., tuple[int, str, str]]
CHECK = ("policy", "check")


@pytest.fixture
def said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Said:
    """Runs a command over one state with these documents: its exit code, and what it printed where."""

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([*words, "--state", str(tmp_path / "state")])
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, printed.out, printed.err

    (tmp_path / "documents.yaml").write_text(DOCUMENTS)
    assert run("apply", "-f", str(tmp_path / "documents.yaml"))[0] == 0
    return run


def judged(said: Said, *words: str) -> Any:
    """The decision, what the client hears, and the ids that decided."""
    code, out, _ = said(*CHECK, *words, "--json")
    found = json.loads(out)
    assert code == (0 if found["decision"] == "ALLOW" else 1)
    assert all(it["reason"] for it in found["policies"])
    return found["decision"], found["heard"], [it["id"] for it in found["policies"]]


def key(said: Said, *words: str) -> str:
    return str(json.loads(said("keys", "create", *words, "--json")[1])["id"])


def test_a_question_about_a_model_is_answered_as_a_request_would_be(said: Said) -> None:
    infer = ("--action", "infer", "--model")
    acme = ("--tenant", "acme")
    assert judged(said, *acme, *infer, "digits") == ("ALLOW", None, ["tenant-has-model"])
    assert judged(said, *acme, *infer, "ledger") == ("DENY", 404, [])
    assert judged(said, *acme, *infer, "nothing") == ("DENY", 404, [])
    assert judged(said, *acme, "--role", "viewer", *infer, "digits") == ("DENY", 403, ["viewer-only-looks"])
    assert judged(said, *acme, "--role", "billing", *infer, "digits") == (
        "DENY",
        403,
        ["billing-has-no-models"],
    )
    assert judged(said, "--operator", *infer, "digits") == ("DENY", 401, [])
    said("tenants", "restrict", "acme", "--regions", "eu-west")
    assert judged(said, *acme, *infer, "digits")[0] == "ALLOW"
    assert judged(said, *acme, *infer, "story") == ("DENY", 403, ["tenant-restricts-regions"])


def test_a_key_is_found_by_its_id_alone_and_judged_as_it_is_now(said: Said) -> None:
    limited = key(said, "--tenant", "acme", "--models", "digits")
    digits, story = (("--key", limited, "--action", "infer", "--model", it) for it in ("digits", "story"))
    assert judged(said, *digits)[0] == "ALLOW"
    assert judged(said, *story) == ("DENY", 403, ["key-is-limited"])
    operators = key(said, "--operator")
    assert judged(said, "--key", operators, "--action", "survey") == ("ALLOW", None, ["operator-controls"])
    account = json.loads(
        said("accounts", "create", "ci", "--tenant", "acme", "--role", "developer", "--json")[1]
    )["id"]
    developer = key(said, "--tenant", "acme", "--account", account)
    issue = ("--key", developer, "--action", "issue")
    assert judged(said, *issue) == ("ALLOW", None, ["role-keeps-its-tenants-keys"])
    assert judged(said, *issue, "--gives", "admin") == ("DENY", 403, ["key-is-above-ones-role"])
    assert judged(said, *issue, "--widens") == ("DENY", 403, ["key-is-for-more-models"])
    assert judged(said, *issue, "--loosens") == ("DENY", 403, ["key-is-bound-to-less"])
    said("accounts", "remove", account, "--tenant", "acme")
    assert judged(said, *issue) == ("DENY", 401, [])
    for each, whose in ((limited, ("--tenant", "acme")), (operators, ("--operator",))):
        said("keys", "revoke", each, *whose)
        assert judged(said, "--key", each, "--action", "whoami") == ("DENY", 401, [])
    code, _, err = said(*CHECK, "--key", "k_" + "0" * 20, "--action", "whoami")
    assert (code, "no key" in err) == (1, True)


def test_the_key_for_emergencies_is_judged_as_one_by_its_id(said: Said) -> None:
    govern = ("--key", key(said, "--operator", "--break-glass"), "--action", "govern", "--on", "acme")
    assert judged(said, *govern) == ("DENY", 403, [])
    assert judged(said, *govern, "--reason", "fire") == ("ALLOW", None, ["break-glass-controls"])


def test_a_question_about_control_is_answered_as_the_api_would(said: Said) -> None:
    admin = ("--tenant", "acme", "--role", "admin", "--action")
    assert judged(said, *admin, "administer") == ("ALLOW", None, ["admin-administers-its-tenant"])
    assert judged(said, *admin, "govern") == ("DENY", 403, [])
    assert judged(said, *admin, "view", "--on", "globex") == ("DENY", 404, [])
    assert judged(said, *admin, "survey") == ("DENY", 403, [])
    operator = ("--operator", "--action")
    assert judged(said, *operator, "whoami") == ("ALLOW", None, ["operator-controls"])
    assert judged(said, *operator, "govern", "--on", "acme") == ("ALLOW", None, ["operator-controls"])
    glass = ("--role", "break-glass", *operator, "govern", "--on", "acme")
    assert judged(said, *glass) == ("DENY", 403, [])
    assert judged(said, *glass, "--reason", "fire") == ("ALLOW", None, ["break-glass-controls"])
    said("tenants", "suspend", "acme")
    assert judged(said, *admin, "administer") == ("DENY", 403, ["tenant-is-not-active"])
    said("tenants", "close", "acme")
    assert judged(said, *admin, "view") == ("DENY", 401, [])


def test_people_read_the_decision_what_is_heard_and_each_policy_with_its_sentence(said: Said) -> None:
    code, out, _ = said(*CHECK, "--tenant", "acme", "--action", "infer", "--model", "ledger")
    assert (code, out) == (1, "DENY: the client hears 404\nno policy permits it\n")
    code, out, _ = said(*CHECK, "--tenant", "acme", "--action", "whoami")
    assert (code, out) == (
        0,
        "ALLOW\neverybody-is-somebody: whoever has a credential may ask whose it is\n",
    )


@pytest.mark.parametrize(
    "words",
    [
        ("--tenant", "acme", "--action", "infer"),
        ("--tenant", "acme", "--action", "issue", "--model", "digits"),
        ("--tenant", "acme", "--role", "break-glass", "--action", "view"),
        ("--operator", "--role", "admin", "--action", "survey"),
        ("--operator", "--action", "govern"),
        ("--key", "k_1", "--role", "admin", "--action", "view"),
        ("--action", "view"),
        ("--tenant", "acme", "--action", "fly"),
        ("--tenant", "acme", "--operator", "--action", "view"),
    ],
    ids=" ".join,
)
def test_a_question_that_makes_no_sense_is_wrong_usage(said: Said, words: tuple[str, ...]) -> None:
    code, out, err = said(*CHECK, *words)
    assert (code, out) == (64, "")
    assert err


def test_a_set_that_is_not_whole_is_refused_with_file_and_reason(said: Said, tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "policies")
    validate = ("policy", "validate", "--policies", str(folder))
    code, out, _ = said(*validate)
    assert (code, out.split(":")[0]) == (0, "whole")
    version = json.loads(said(*validate, "--json")[1])["version"]
    with (folder / "operator.cedar").open("a") as file:
        file.write("permit (principal, action, resource);")
    code, out, err = said(*validate)
    assert (code, out) == (1, "")
    assert "operator.cedar: policy3" in err
    assert "has no @id" in err
    code, out, _ = said(*validate, "--json")
    told = json.loads(out)
    assert (code, told["whole"], Path(told["file"]).name) == (1, False, "operator.cedar")
    shutil.copy(FOLDER / "operator.cedar", folder)
    assert json.loads(said(*validate, "--json")[1])["version"] == version


def test_policies_that_do_not_decide_as_their_cases_say_are_told_case_by_case(
    said: Said, tmp_path: Path
) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "policies")
    test = ("policy", "test", "--policies", str(folder))
    code, out, _ = said(*test)
    assert (code, out.split()[0]) == (0, "all")
    with (folder / "inference.cedar").open("a") as file:
        file.write('@id("x") forbid (principal, action == Action::"describe", resource);')
    code, out, _ = said(*test)
    assert code == 1
    first = out.splitlines()[0]
    assert first == (
        "inference.cases.toml: a key of the tenant describes: "
        "it is DENY by x, and should be ALLOW by tenant-has-model"
    )
    assert json.loads(said(*test, "--json")[1])["wrong"][0] == first
    (folder / "control.cases.toml").write_text("cases = 1")
    code, _, err = said(*test)
    assert (code, "control.cases.toml" in err) == (1, True)
