"""`gateway apply` as people and programs meet it: compared, applied, pruned, refused."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.place import FLEET, Place, model
from tests.e2e.world import PROGRAM, command


def test_a_dry_run_says_what_would_change_and_changes_nothing(place: Place) -> None:
    path = place.write("all.yaml", FLEET, model())
    done = command("apply", "-f", path, "--dry-run", "--state", place.state)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout == "+ Fleet local\n+ Model echo_fp32\nPlan: 2 to create, 0 to change, 0 to remove.\n"
    assert not place.state.exists()


def test_documents_are_applied_once_and_then_there_is_nothing_to_do(place: Place) -> None:
    path = place.write("all.yaml", FLEET, model())
    at = ("-f", path, "--state", place.state)
    assert command("apply", *at).stdout.endswith("Applied: 2 created, 0 changed, 0 removed.\n")
    assert command("apply", *at).stdout == "nothing to do: 2 unchanged\n"
    assert command("apply", *at, "--dry-run").returncode == 0
    place.write("all.yaml", FLEET, model(memory_bytes=1000))
    done = command("apply", *at, "--dry-run")
    assert done.returncode == 2
    assert done.stdout == (
        "~ Model echo_fp32\n    memory_bytes: 67108864 -> 1000\nPlan: 0 to create, 1 to change, 0 to remove.\n"
    )
    assert command("apply", *at).returncode == 0
    assert command("apply", *at, "--dry-run").returncode == 0


def test_programs_get_the_same_as_json(place: Place) -> None:
    path = place.write("all.yaml", FLEET, model(tenants=["acme"]))
    note = {"file": str(path), "line": 5, "path": "tenants[0]", "reason": "there is no tenant 'acme' yet"}
    first = place.told("apply", "-f", path)
    assert first == {
        "applied": True,
        "changes": [
            {"kind": "Fleet", "name": "local", "action": "create", "fields": {}},
            {"kind": "Model", "name": "echo_fp32", "action": "create", "fields": {}},
        ],
        "unchanged": 0,
        "notes": [note],
    }
    place.write("all.yaml", FLEET, model())
    (change,) = place.told("apply", "-f", path, "--dry-run", code=2)["changes"]
    assert change["fields"] == {"tenants": {"before": ["acme"], "after": "*"}}


def test_tenants_are_declared_with_their_plan_and_members_and_closed_only_when_that_is_asked_for(
    place: Place,
) -> None:
    plan = "kind: Plan\nname: team\nweight: 1\nlimits: {body_bytes: 1000}\n"
    tenant = "kind: Tenant\nname: acme\nplan: team\nmembers: [{email: admin@acme.example, role: admin}]\n"
    path = place.write("all.yaml", FLEET, plan, tenant)
    at = ("-f", path, "--state", place.state)
    assert command("apply", *at).stdout.startswith(
        "+ Fleet local\n+ Plan team\n+ Tenant acme\nPlan: 3 to create"
    )
    place.told("keys", "create", "--tenant", "acme")
    place.write("all.yaml", FLEET, plan, tenant.replace("role: admin", "role: viewer"))
    assert command("apply", *at, "--dry-run").stdout.startswith(
        '~ Tenant acme\n    members.admin@acme.example: "admin" -> "viewer"\n'
    )
    place.write("all.yaml", plan)
    assert place.told("apply", *at[:2])["changes"] == []
    pruned = place.told("apply", *at[:2], "--prune")
    assert pruned["changes"] == [{"kind": "Fleet", "name": "local", "action": "remove", "fields": {}}]
    assert ["--prune-tenants closes it" in it["reason"] for it in pruned["notes"]] == [True]
    done = command("apply", *at, "--prune-tenants")
    assert (done.returncode, done.stderr) == (64, "gateway: --prune-tenants goes with --prune\n")
    assert command("apply", *at, "--prune", "--prune-tenants").stdout == (
        "- Tenant acme\nPlan: 0 to create, 0 to change, 1 to remove.\nApplied: 0 created, 0 changed, 1 removed.\n"
    )
    assert place.told("tenants", "show", "acme")["state"] == "closing"


@pytest.mark.parametrize(
    ("environ", "coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_colours_are_for_terminals_that_have_them_and_people_who_want_them(
    place: Place,
    environ: dict[str, str],
    coloured: bool,  # noqa: FBT001
) -> None:
    ours, theirs = os.openpty()
    environ = {name: it for name, it in os.environ.items() if name not in ("TERM", "NO_COLOR")} | environ
    words: list[str | Path] = [PROGRAM, "apply", "-f", place.documents, "--dry-run", "--state", place.state]
    done = subprocess.run(words, stdout=theirs, env=environ, timeout=60, check=False)
    os.close(theirs)
    with open(ours, "rb", buffering=0) as terminal:
        shown = terminal.read(4096)
    assert done.returncode == 2
    assert (b"\x1b[32m+ Fleet local\x1b[0m" in shown) == coloured
    assert (b"\x1b" in shown) == coloured


def test_every_fault_is_a_line_and_nothing_is_applied(place: Place) -> None:
    place.write(
        "a.yaml", FLEET.replace("local", "other"), "kind: Model\nname: x\nrepository: m\ntenants: [on]\n"
    )
    place.write("b.yml", "kind: Model\nname: z\nfleet: nowhere\nrepository: m\ntenants: '*'\n")
    done = command("apply", "-f", place.documents, "--state", place.state)
    assert (done.returncode, done.stdout) == (1, "")
    first, second, last = done.stderr.splitlines()
    assert first.startswith(f"{place.documents}/a.yaml:8: tenants[0]: 'on' is read differently")
    assert second == f"{place.documents}/b.yml:3: fleet: there is no fleet 'nowhere'"
    assert last == "gateway: nothing was applied"
    assert not place.state.exists()
    done = command("apply", "-f", place.documents, "--state", place.state, "--json")
    assert [(it["line"], it["path"]) for it in json.loads(done.stdout)["faults"]] == [
        (8, "tenants[0]"),
        (3, "fleet"),
    ]
    assert done.returncode == 1


def test_a_folder_is_its_yaml_files_and_an_empty_one_is_said(place: Place) -> None:
    place.write("models.yml", model())
    for name in ("notes.txt", ".hidden.yaml", "saved.yaml~"):
        place.write(name, "no document")
    assert len(place.told("apply", "-f", place.documents)["changes"]) == 2
    for path in (place.documents / "models.yml", place.documents / "fleets.yaml"):
        path.unlink()
    for missing in (place.documents, place.documents / "none.yaml"):
        done = command("apply", "-f", missing, "--state", place.state)
        assert (done.returncode, done.stdout) == (1, "")
        assert str(missing) in done.stderr
    empty = place.write("empty.yaml", "# nothing yet\n")
    for wanted in (empty, place.documents):
        for options in ((), ("--dry-run",)):
            done = command("apply", "-f", wanted, *options, "--state", place.state)
            assert (done.returncode, done.stdout) == (1, "")
            assert f"{wanted} holds no document" in done.stderr


def test_what_is_exported_changes_nothing_from_whatever_folder_it_is_applied(place: Place) -> None:
    """Its models are in the folders that they were in, also where their documents named those from their own place."""
    plan = "kind: Plan\nname: team\nweight: 1\nlimits: {body_bytes: 1000}\n"
    place.write("all.yaml", model(repository="../mine", description="two\nlines: on"), plan)
    place.told("apply", "-f", place.documents)
    place.told("tenants", "create", "acme", "--plan", "team")
    key = place.told("keys", "create", "--tenant", "acme")
    folder = place.state.parent / "exported" / "here"
    assert [Path(it).name for it in place.told("export", "-f", folder)["files"]] == [
        "fleets.yaml",
        "models.yaml",
        "plans.yaml",
        "tenants.yaml",
    ]
    assert str(place.documents.parent / "mine") in (folder / "models.yaml").read_text()
    at = ("--state", place.state)
    done = command("apply", "-f", folder, "--dry-run", *at)
    assert (done.returncode, done.stdout) == (0, "nothing to do: 4 unchanged\n")
    printed = command("export", *at)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert key["id"] not in printed.stdout
    one = place.write("one.yaml", printed.stdout)
    assert command("apply", "-f", one, "--dry-run", *at).returncode == 0
    assert [it["kind"] for it in json.loads(command("export", "--json", *at).stdout)] == [
        *("Plan", "Fleet", "Model", "Tenant"),
    ]
    done = command("export", "-f", folder, *at)
    assert (done.returncode, done.stdout) == (1, "")
    assert "has documents already" in done.stderr


def test_where_there_is_no_state_there_is_nothing_to_export_and_none_is_made(place: Place) -> None:
    done = command("export", "--state", place.state)
    assert (done.returncode, done.stdout) == (1, "")
    assert "--state" in done.stderr
    assert not place.state.exists()
