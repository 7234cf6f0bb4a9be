"""Who may ask for what: each route and RPC that there is, by each kind of credential, at each listener, as the matrix says; and what is of
others looks like nothing.
"""

from collections.abc import Iterator
from dataclasses import replace

import grpc
import pytest

from gateway.frontends import routes
from tenants.api.routes import OPERATIONS
from tests.conftest import ROOT
from tests.e2e.asking import (
    OFFICIAL,
    WAYS,
    Way,
    about_things,
    absent,
    called,
    disguises,
    foreign_and_absent,
    hides,
    names_of,
    of_control,
    of_doors,
    plainly,
    request_of,
    said,
)
from tests.e2e.callers import ECHO, FOREIGN, FOREIGN_MODEL, HOME, LISTENERS, Callers, calling
from tests.e2e.matrix import CONTROL, DOORS, NOBODY, RPCS, faults
from tests.test_docs import between

pytestmark = pytest.mark.triton

REFUSALS = {400, 401, 403, 404, 405, 422}  # the last: an operator's name for a thing is no name
METHODS = (
    "HEAD",
    "OPTIONS",
    "TRACE",
    "GET",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "PROPFIND",
    "BREW",
    "get",
    "CONNECT",
)
OVERRIDES = {
    "x-http-method-override": "GET",
    "x-original-url": "/healthz",
    "x-rewrite-url": "/healthz",
    "x-forwarded-prefix": "/healthz",
    "x-forwarded-for": "127.0.0.1",
}


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callers]:
    with calling(tmp_path_factory.mktemp("matrix") / "state") as made:
        yield made


@pytest.fixture(scope="module")
def channel(callers: Callers) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(callers.demo.grpc) as made:
        yield made


# The matrix itself


def test_every_route_and_rpc_has_a_row_and_every_row_is_of_one() -> None:
    served = {rpc.path for rpc in routes.RPCS}
    found = [
        *faults(CONTROL, (it.label for it in of_control())),
        *faults(DOORS, (it.label for it in of_doors())),
    ]
    assert [*found, *faults(RPCS, served | OFFICIAL)] == []


def test_a_new_route_or_rpc_without_a_row_is_found() -> None:
    new = replace(OPERATIONS[0], id="dropTenants", path="/everything", method="DELETE")
    assert [*faults(CONTROL, (it.label for it in of_control((*OPERATIONS, new))))] == [
        "dropTenants has no row in the matrix: who may ask for it?"
    ]
    gone = {label for label in CONTROL if label != "whoami"}
    assert [*faults(CONTROL, gone)] == ["whoami has a row in the matrix, and is not there"]


def test_what_needs_no_credential_is_open_to_everybody_and_all_else_is_closed_to_nobody() -> None:
    open_ = {f"{it.method} {it.path}" for it in (*routes.PUBLIC, *routes.OPERATOR) if it.is_open}
    open_ |= {rpc.path for rpc in routes.RPCS if rpc.is_open} | {"GET /control/openapi.json"}
    for label, row in (CONTROL | DOORS | RPCS).items():
        assert row[NOBODY] == ("ok" if label in open_ else "401"), label
        assert label not in open_ or set(row.values()) == {"ok"}


def test_the_rows_of_the_control_api_are_what_the_policies_page_says_of_roles() -> None:
    table = between((ROOT / "policies" / "README.md").read_text(), "roles")
    first, _, *lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    may = {line[0].strip("`"): dict(zip(first[1:], line[1:], strict=True)) for line in lines}
    for it in OPERATIONS:
        for role, said_there in may[it.action].items():
            cell = CONTROL[it.id]["plain" if role == "none" else role]
            assert cell == ("ok" if said_there == "yes" else "403"), (it.id, role)


# What is said


@pytest.mark.parametrize("way", WAYS, ids=lambda it: it.label)
def test_a_route_says_to_each_credential_what_the_matrix_says(callers: Callers, way: Way) -> None:
    """And whoever is nobody there, for whatever reason, hears the same to the byte."""
    told, wanted, unknown = {}, {}, []
    for name, by in callers.credentials.items():
        asked = request_of(callers, way, by)
        for at in LISTENERS:
            answer = callers.ask(by, asked.method, asked.path, asked.body, asked.headers, at=at)
            told[name, at], wanted[name, at] = said(answer), way.expected(by, at)
            if told[name, at] == "401":
                unknown.append(plainly(answer))
            elif told[name, at] == "ok":
                callers.spent(*asked.things)
    assert {at: it for at, it in told.items() if it != wanted[at]} == {}
    assert unknown == unknown[:1] * len(unknown)


@pytest.mark.parametrize("rpc", RPCS)
def test_an_rpc_says_to_each_credential_what_the_matrix_says(
    callers: Callers, channel: grpc.Channel, rpc: str
) -> None:
    told = {name: called(channel, rpc, by) for name, by in callers.credentials.items()}
    wanted = {name: RPCS[rpc][by.column] for name, by in callers.credentials.items()}
    assert {name: it.said for name, it in told.items() if it.said != wanted[name]} == {}
    assert len({it for it in told.values() if it.said == "401"}) <= 1


def test_to_nobody_every_path_and_rpc_looks_like_every_other(callers: Callers, channel: grpc.Channel) -> None:
    """Also one that is not there, below each prefix that has its own form of a refusal."""
    none = callers.credentials["none"]
    for at in LISTENERS:
        refused: dict[str, list[object]] = {}
        ways = [way for way in WAYS if way.expected(none, at) == "401"]
        paths = [(way.method, request_of(callers, way, none).path) for way in ways]
        if at == "public":
            paths += [("GET", "/"), ("GET", "/nothing"), ("GET", "/v1/nothing"), ("POST", "/v2/nothing")]
        for method, path in [
            *paths,
            ("GET", "/control/nothing"),
            ("GET", "/control/v1/nothing"),
            ("GET", "/audit/nothing"),
        ]:
            form = {"v1": "v1", "control": "control", "audit": "control"}.get(path.split("/")[1], "")
            refused.setdefault(form, []).append(plainly(callers.ask(none, method, path, at=at)))
        assert {form: said == said[:1] * len(said) for form, said in refused.items()} == dict.fromkeys(
            refused, True
        )
        assert refused.keys() == ({"", "v1", "control"} if at == "public" else {"control"})
    closed = [rpc for rpc, row in RPCS.items() if row[NOBODY] == "401"]
    assert (
        len(
            {
                called(channel, rpc, none)
                for rpc in [*closed, "/inference.GRPCInferenceService/Nothing", "/a/b"]
            }
        )
        == 1
    )


# What is of others


@pytest.mark.parametrize("way", [it for it in WAYS if about_things(it)], ids=lambda it: it.label)
def test_what_is_of_others_looks_like_what_is_not_there(callers: Callers, way: Way) -> None:
    compared = 0
    for by in callers.credentials.values():
        if by.is_a_tenants:
            for foreign, missing in foreign_and_absent(callers, way, by):
                told = [
                    (said(answer), plainly(answer, *asked.things))
                    for asked in (foreign, missing)
                    for answer in [callers.ask(by, asked.method, asked.path, asked.body, asked.headers)]
                ]
                assert told[0] == told[1], (by.column, foreign.path)
                assert told[0][0] in ("403", "404"), told[0]
                compared += 1
    assert compared >= 8


@pytest.mark.parametrize("rpc", [it for it in RPCS if "404" in RPCS[it].values()])
def test_a_model_of_others_looks_over_grpc_like_none_at_all(
    callers: Callers, channel: grpc.Channel, rpc: str
) -> None:
    for by in callers.credentials.values():
        if by.is_a_tenants:
            theirs = ECHO if by.column == "stranger" else FOREIGN_MODEL
            told = [called(channel, rpc, by, model) for model in (theirs, absent(theirs))]
            assert told[0] == told[1], by.column
            assert told[0].said in ("403", "404")


def test_a_key_is_made_for_no_account_and_no_model_of_others(callers: Callers) -> None:
    """Where it would be told apart from one for what is not there."""
    account = callers.thing("account", FOREIGN)
    for name, theirs in (("account", account), ("models", [FOREIGN_MODEL])):
        missing = absent(account) if name == "account" else [absent(FOREIGN_MODEL)]
        for role in ("admin", "developer"):
            told = [
                callers.ask(callers.credentials[role], "POST", f"/control/v1/tenants/{HOME}/keys", {name: it})
                for it in (theirs, missing)
            ]
            assert {said(answer) for answer in told} == {"404"}
            echoed = [account, absent(account), FOREIGN_MODEL, absent(FOREIGN_MODEL)]
            assert plainly(told[0], *echoed) == plainly(told[1], *echoed)


def test_lists_name_nothing_of_others(callers: Callers) -> None:
    by = callers.credentials["stranger"]
    listed = callers.ask(by, "GET", "/v1/models").json["data"]
    assert [it["id"] for it in listed] == [FOREIGN_MODEL]
    for path in ("models", "keys", "data-keys", "accounts", "members", "audit"):
        answer = callers.ask(by, "GET", f"/control/v1/tenants/{FOREIGN}/{path}")
        assert said(answer) == "ok"
        assert HOME.encode() not in answer.body
        assert ECHO.encode() not in answer.body


# Other ways to say the same


@pytest.mark.parametrize("path", [*dict.fromkeys(it.path for it in WAYS)])
def test_a_path_in_disguise_gives_nobody_more_than_it_gives_plainly(callers: Callers, path: str) -> None:
    """Neither another way to write it, nor another method: a refusal, and to nobody one that tells nothing."""
    ways = {way.method: way for way in WAYS if way.path == path}
    way = next(iter(ways.values()))
    may = "operator" if path.startswith("/control/") else "admin"
    for by in (callers.credentials[name] for name in ("none", "stranger", may)):
        plain = path.format(**names_of(callers, way, by))
        asks = [(way.method, it) for it in disguises(plain)]
        asks += [(it, plain) for it in METHODS if it not in ways]
        for at in way.at if by.column == NOBODY else {by.listener} & way.at:
            for method, target in asks:
                allowed = {400, 401} if by.column == NOBODY and hides(at, target) else REFUSALS
                if method == "HEAD" and "GET" in ways and ways["GET"].expected(by, at) == "ok":
                    allowed = allowed | {200}
                answer = callers.ask(by, method, target, at=at)
                assert answer.status in allowed, (by.column, at, method, target, answer.body)


@pytest.mark.parametrize("rpc", RPCS)
def test_an_rpc_in_disguise_is_none(callers: Callers, channel: grpc.Channel, rpc: str) -> None:
    service, name = rpc[1:].split("/")
    for path in (
        *(
            f"/{rpc}",
            f"{rpc}/",
            f"{rpc}%00",
            f"{rpc}?a=b",
            rpc.lower(),
            rpc.upper(),
            f"/{name}",
            f"/{service}/",
        ),
        *(
            f"/{service}//{name}",
            f"/{service}/x/../{name}",
            f"/{service}%2f{name}",
            f"/{service}/%{ord(name[0]):x}{name[1:]}",
        ),
    ):
        told = [called(channel, path, callers.credentials[by]).said for by in ("none", "stranger", "admin")]
        assert told == ["401", "-", "-"], path


@pytest.mark.parametrize("way", WAYS, ids=lambda it: it.label)
def test_a_whole_url_says_what_its_path_says(callers: Callers, way: Way) -> None:
    """Whatever host it names, and whatever a header says of another path or method. Of changes those that are refused."""
    for by in (callers.credentials[name] for name in ("none", "stranger", "billing", "operator")):
        for at in LISTENERS:
            wanted = way.expected(by, at)
            if wanted != "ok" or way.method == "GET":
                asked = request_of(callers, way, by)
                headers = {**asked.headers, **OVERRIDES}
                for target in (f"http://elsewhere.example{asked.path}", f"https://a@b:1{asked.path}#c"):
                    answer = callers.ask(by, asked.method, target, asked.body, headers, at=at)
                    assert said(answer) == wanted, (by.column, at, target)
