"""Who says what a tenant has for itself, and what is told of whose it is: issuers as certificates."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from tenants.certificates import MOST_CERTIFICATES
from tenants.issuers import MOST_ISSUERS
from tests.tenants.api.worlds import World

ISSUER = {"issuer": "https://login.acme.example", "audience": "gateway"}
CERTIFICATE = {"name": "ingest", "uri": "spiffe://acme.example/ingest"}


@dataclass(frozen=True, slots=True)
class Case:
    """One sort: an entry, and what is shown beside what was sent of it."""

    many: str
    own: dict[str, Any]
    beside: dict[str, Any] = field(default_factory=dict)

    def of(self, tenant: str) -> str:
        return f"/tenants/{tenant}/{self.many}"

    @property
    def body(self) -> dict[str, Any]:
        return {self.many: [self.own]}


CASES = (
    Case("issuers", ISSUER, {"jwks_url": None, "roles_claim": None, "insecure": False, "roles": None}),
    Case("certificates", CERTIFICATE, {"dns": None, "email": None, "models": None}),
)
sorts = pytest.mark.parametrize("case", CASES, ids=lambda case: case.many)


@sorts
async def test_a_list_is_read_put_and_put_again_as_it_is_shown(world: World, case: Case) -> None:
    of_acme = case.of("acme")
    empty = await world.ask("GET", of_acme)
    assert (empty.json, empty.status) == ({case.many: []}, 200)
    tag = empty.headers["etag"]
    made = await world.ask("PATCH", of_acme, case.body, if_match=tag)
    assert (made.json, made.status) == ({case.many: [case.own | case.beside]}, 200)
    assert (await world.ask("PATCH", of_acme, {case.many: []}, if_match=tag)).code == "stale"
    shown = await world.ask("GET", of_acme, by="viewer")
    assert (shown.json, shown.headers["etag"]) == (made.json, made.headers["etag"])
    again = await world.ask("PATCH", of_acme, shown.json, if_match=shown.headers["etag"])
    assert again.headers["etag"] == shown.headers["etag"]
    told = (await world.ask("GET", "/tenants/acme/audit")).json["items"]
    assigned = f"{case.many.removesuffix('s')}.assigned"
    assert [it["action"] for it in told].count(assigned) == 1


@sorts
async def test_what_another_has_is_not_got_and_operators_alone_hear_whose_it_is(
    world: World, case: Case
) -> None:
    of_acme, of_globex = case.of("acme"), case.of("globex")
    await world.ask("PATCH", of_acme, case.body, if_match=await world.etag(of_acme))
    before = dict(world.table.rows)
    refused = await world.ask("PATCH", of_globex, case.body, if_match=await world.etag(of_globex))
    assert (refused.status, refused.code) == (409, "in_use")
    assert "acme" in refused.json["detail"]
    hidden = await world.ask("PATCH", of_globex, case.body, by="stranger", if_match='"0-0"')
    assert hidden.code == "forbidden"
    assert b"acme" not in hidden.body
    assert world.table.rows == before


@sorts
async def test_of_many_tenants_that_are_given_the_same_at_once_one_has_it(world: World, case: Case) -> None:
    tags = {path: await world.etag(path) for path in (case.of("acme"), case.of("globex"))}
    answers = await asyncio.gather(
        *(world.ask("PATCH", path, case.body, if_match=tags[path]) for path in [*tags] * 5)
    )
    assert sorted({answer.status for answer in answers}) == [200, 409, 412]
    assert sum(answer.status == 200 for answer in answers) == 1
    assert len([path for path in tags if (await world.ask("GET", path)).json[case.many]]) == 1


@pytest.mark.parametrize(
    ("many", "entries", "path"),
    [
        ("issuers", [{**ISSUER, "issuer": "http://login.acme.example"}], "issuers[0].issuer"),
        ("issuers", [{**ISSUER, "issuer": "https://169.254.169.254"}], "issuers[0].issuer"),
        ("issuers", [{**ISSUER, "tenant_claim": "tenant"}], "issuers[0]"),
        ("issuers", [{**ISSUER, "operators": True}], "issuers[0]"),
        (
            "issuers",
            [{**ISSUER, "roles_claim": "r", "roles": {"a": "operator"}}],
            "issuers[0].roles[...]",
        ),
        ("issuers", [ISSUER, ISSUER], "issuers[1]"),
        ("issuers", [{**ISSUER, "audience": f"{number}"} for number in range(MOST_ISSUERS + 1)], "issuers"),
        ("issuers", [{**ISSUER, "audience": ""}], "issuers[0].audience"),
        ("issuers", None, "issuers"),
        ("certificates", [{"name": "ingest"}], "certificates[0]"),
        ("certificates", [{**CERTIFICATE, "dns": "a.example"}], "certificates[0]"),
        ("certificates", [{**CERTIFICATE, "uri": "acme.example"}], "certificates[0].uri"),
        ("certificates", [{**CERTIFICATE, "common_name": "ingest"}], "certificates[0]"),
        ("certificates", [{**CERTIFICATE, "models": []}], "certificates[0].models"),
        ("certificates", [CERTIFICATE, {**CERTIFICATE, "name": "other"}], "certificates[1].uri"),
        (
            "certificates",
            [{"name": f"a{number}", "dns": f"a{number}"} for number in range(MOST_CERTIFICATES + 1)],
            "certificates",
        ),
        ("certificates", None, "certificates"),
    ],
)
async def test_what_is_no_entry_is_refused_at_its_place(
    world: World, many: str, entries: object, path: str
) -> None:
    before = dict(world.table.rows)
    at = f"/tenants/acme/{many}"
    answer = await world.ask("PATCH", at, {many: entries}, if_match=await world.etag(at))
    assert (answer.code, answer.json["path"]) == ("invalid", path)
    assert world.table.rows == before


@sorts
async def test_a_change_that_says_nothing_takes_nothing_away(world: World, case: Case) -> None:
    at = case.of("acme")
    await world.ask("PATCH", at, case.body, if_match=await world.etag(at))
    bodies: tuple[object, ...] = ({}, None)
    for body in bodies:
        answer = await world.ask("PATCH", at, body, if_match=await world.etag(at))
        assert answer.code == "invalid"
    assert len((await world.ask("GET", at)).json[case.many]) == 1
