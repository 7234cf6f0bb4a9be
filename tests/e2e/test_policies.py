"""Policies that change on disk under a gateway that serves: a bad set changes nothing and is told, a good one holds for the next call."""

import re
import shutil
from pathlib import Path

import pytest

import policies
from tests.e2e.test_operator import get
from tests.e2e.world import Demo, serving, until

pytestmark = pytest.mark.triton

FOLDER = Path(policies.__file__).parent
CLOSED = '@id("closed-today") @reason("nothing is served today") forbid (principal, action, resource);\n'


def figures(demo: Demo) -> str:
    return get(demo.operator, "/metrics")[1].decode()


def version(demo: Demo) -> str:
    found = re.search(
        r'^gateway_policies_in_force\{gateway_policies_version="(\w+)"', figures(demo), re.MULTILINE
    )
    assert found is not None
    return found[1]


def test_changed_policies_hold_without_a_restart_and_a_bad_set_changes_nothing(
    state: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "policies")
    file = folder / "inference.cedar"
    with serving(state, GATEWAY_POLICIES=str(folder)) as demo:
        before, whole = version(demo), file.read_text()
        ready = demo.call("/v2/models/digits/ready").status
        assert ready != 403

        file.write_text(whole + '@id("half") forbid (principal,')
        until(lambda: "gateway_policies_refused_total 1\n" in figures(demo), 20)
        assert (version(demo), demo.call("/v2/models/digits/ready").status) == (before, ready)
        assert f"{before} stays in force: {file}: " in state.with_suffix(".stderr").read_text()

        file.write_text(whole + CLOSED)
        until(lambda: version(demo) != before, 20)
        assert demo.call("/v2/models/digits/ready").status == 403
        assert "gateway_policies_replaced_total 1\n" in figures(demo)
