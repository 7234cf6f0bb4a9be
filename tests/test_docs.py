"""The READMEs say what the code does: tables that are derived are compared, examples are run, links lead somewhere."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from gateway.errors import TABLE
from gateway.settings import Settings, SettingsError, knobs, load
from gateway.telemetry.prometheus import name_of
from gateway.telemetry.table import SPANS
from gateway.telemetry.table import TABLE as METRICS
from tenants import data_keys, tenant
from tenants.api.problems import TABLE as PROBLEMS
from tenants.api.routes import AUDIT, BASE, OPERATIONS
from tests.conftest import ROOT

READMES = sorted(path for path in ROOT.rglob("README.md") if ".venv" not in path.parts)


def between(text: str, mark: str) -> str:
    return text.split(f"<!-- {mark} -->")[1].split(f"<!-- /{mark} -->", maxsplit=1)[0].strip()


def test_every_error_code_is_documented_as_the_table_has_it() -> None:
    rows = ["| code | HTTP | gRPC | sentence |", "|---|---|---|---|"]
    rows += [f"| `{code}` | {it.http} | {it.grpc} | {it.sentence} |" for code, it in TABLE.items()]
    assert between((ROOT / "gateway" / "README.md").read_text(), "errors") == "\n".join(rows)


def test_every_operation_of_the_control_api_is_documented_as_its_table_has_it() -> None:
    rows = ["| operation | | what it does | takes | answers | refused with |", "|---|---|---|---|---|---|"]
    for it in OPERATIONS:
        takes = [f"`{it.body.__name__}`"] if it.body else []
        takes += [f"`{name}`" for name in it.query]
        takes += ["Idempotency-Key"] * it.is_once + ["If-Match"] * it.is_guarded
        takes += ["If-None-Match"] * (it.is_tagged or it.method == "PUT")
        statuses = ", ".join(map(str, sorted({PROBLEMS[code].status for code in it.problems})))
        answers = ", ".join(map(str, it.successes))
        path = it.path if it.base == BASE else it.full_path
        what = f"| `{it.id}` | `{it.method} {path}` | {it.summary} | {' '.join(takes)} | {answers} | {statuses} |"
        rows.append(what)
    assert between((ROOT / "tenants" / "api" / "README.md").read_text(), "operations") == "\n".join(rows)


def test_every_problem_of_the_control_api_is_documented_as_its_table_has_it() -> None:
    rows = ["| code | status | title |", "|---|---|---|"]
    rows += [f"| `{code}` | {kind.status} | {kind.title} |" for code, kind in PROBLEMS.items()]
    assert between((ROOT / "tenants" / "api" / "README.md").read_text(), "problems") == "\n".join(rows)


def test_every_operation_of_the_control_api_has_an_example() -> None:
    marks = re.findall(r"<!-- example: (.*?) -->", (ROOT / "tenants" / "api" / "README.md").read_text())
    named = [name for mark in marks for name in mark.split()]
    assert sorted(named) == sorted(it.id for it in OPERATIONS)


def called(block: str) -> set[str]:
    """The operations that a block of shell asks for with curl; a variable stands for one part of a path, $OF for a whole one."""
    whole = re.search(r'^OF="(.*)"$', block, re.MULTILINE)
    found = set()
    for call in block.replace('"$OF"', f'"{whole[1]}"' if whole else "").split("curl ")[1:]:
        url = re.search(r'"\$(OPERATOR|PUBLIC|AUDIT)(/[^"?]*)', call)
        method = re.search(r"-X (\w+)", call)
        verb = method[1] if method else "POST" if " -d " in call else "GET"
        found |= {
            it.id
            for it in OPERATIONS
            if url
            and it.method == verb
            and (it.base == AUDIT) == (url[1] == "AUDIT")
            and len(it.path.split("/")) == len(url[2].split("/"))
            and all(
                ours == theirs or (ours[0] == "{" and theirs not in {"rotate", "revoke"})
                for ours, theirs in zip(it.path.split("/")[1:], url[2].split("/")[1:], strict=True)
            )
        }
    return found


def test_an_example_of_the_control_api_asks_for_the_operations_that_it_is_named_for() -> None:
    readme = (ROOT / "tenants" / "api" / "README.md").read_text()
    for mark, block in re.findall(r"<!-- example: (.*?) -->\n```sh\n(.*?)```", readme, re.DOTALL):
        assert set(mark.split()) <= called(block), mark


def test_every_setting_is_documented_with_its_default() -> None:
    rows = ["| variable | meaning (default) |", "|---|---|"]
    rows += [f"| `{name}` | {meaning} |" for name, meaning in knobs(Settings())]
    assert between((ROOT / "gateway" / "README.md").read_text(), "settings") == "\n".join(rows)


def test_every_metric_is_documented_as_the_table_has_it() -> None:
    rows = ["| metric | Prometheus | kind | unit | attributes | meaning |", "|---|---|---|---|---|---|"]
    for it in METRICS:
        names = " ".join(f"`{name}`" for name in it.attributes)
        rows.append(f"| `{it.name}` | `{name_of(it)}` | {it.kind} | {it.unit} | {names} | {it.meaning} |")
    assert between((ROOT / "gateway" / "README.md").read_text(), "metrics") == "\n".join(rows)


def test_every_span_is_documented_with_its_attributes() -> None:
    rows = ["| span | attributes | meaning |", "|---|---|---|"]
    rows += [
        f"| `{it.name}` | {' '.join(f'`{name}`' for name in it.attributes)} | {it.meaning} |" for it in SPANS
    ]
    assert between((ROOT / "gateway" / "README.md").read_text(), "spans") == "\n".join(rows)


def diagram(edges: Iterable[tuple[str, str, str]]) -> str:
    """States and what leads from one to the next, as mermaid draws them; all begin as active."""
    words: dict[tuple[str, str], list[str]] = {}
    for before, deed, after in edges:
        words.setdefault((before, after), []).append(deed)
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> active"]
    lines += [f"    {before} --> {after}: {', '.join(deeds)}" for (before, after), deeds in words.items()]
    return "\n".join([*lines, "```"])


def test_the_diagram_of_a_tenants_states_is_drawn_from_their_table() -> None:
    edges = [(before, deed, after) for (before, deed), after in tenant.NEXT.items()]
    drawn = diagram([*edges, ("closing", "its time comes", "closed")])  # as `tenant.state` says
    assert between((ROOT / "tenants" / "README.md").read_text(), "tenant states") == drawn


def test_the_diagram_of_a_data_keys_states_is_drawn_from_their_table() -> None:
    edges = [(before, deed, after) for (before, deed), after in data_keys.NEXT.items()]
    drawn = diagram([*edges, ("destroying", "its time comes", "destroyed")])  # as `data_keys.state` says
    assert between((ROOT / "gateway" / "envelope" / "README.md").read_text(), "data key states") == drawn


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_readme_leads_to_a_file(readme: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", readme.read_text()):
        assert link.startswith("https://") or (readme.parent / link).exists(), link


def test_a_setting_from_the_environment_is_used_and_the_command_line_goes_before_it() -> None:
    settings = load(
        {"GATEWAY_PORT": "9000", "GATEWAY_HTTP_HEAD_SECONDS": "2.5", "HOME": "/"}, port=9001, state=None
    )
    assert (settings.port, settings.http.head_seconds, settings.state) == (9001, 2.5, Path(".state"))


@pytest.mark.parametrize(
    "environ",
    [
        {"GATEWAY_PROT": "1"},
        {"GATEWAY_PORT": "many"},
        {"GATEWAY_PORT": "-1"},
        {"GATEWAY_HTTP_HEAD_SECONDS": "nan"},
        {"GATEWAY_HTTP_HEAD_SECONDS": "inf"},
        {"GATEWAY_PORT": "99999"},
        {"GATEWAY_HOST": ""},
        {"GATEWAY_STATE": ""},
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_its_name(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=next(iter(environ))):
        load(environ)
