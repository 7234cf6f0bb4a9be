"""`gateway demo`: everything on this machine, for a look: a tenant, a plan, a key, and the models of a repository."""

import argparse
import json
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

from msgspec.structs import replace

from gateway.commands.arguments import Commands, Parser, actor, add_doors
from gateway.commands.printing import doors, over_grpc, progress, short
from gateway.scaling.scaler import StartFailed
from gateway.settings import Settings
from gateway.state import now_us, opened_directory
from gateway.triton.repository import models, tensor_names
from tenants import declare, plans
from tenants.acts import Act
from tenants.catalogue import Value, name_of
from tenants.directory import Directory, Minted
from tenants.documents import Document, Documents
from tenants.errors import AlreadyExists
from tenants.fleet import Fleet, Replicas
from tenants.model import Model, Scaling
from tenants.openai import Generate, Parameter

if TYPE_CHECKING:
    from gateway.frontends.sockets import Addresses

PLAN: Final = "demo"

_TENANT: Final = "demo"
_KEY_SECONDS: Final = 7 * 86_400
# What a laptop can spare: two servers, each with models of 2 GiB together.
# What is on a fleet of this name is the demo's own.
_FLEET: Final = Fleet("demo", replicas=Replicas(min=0, max=2), memory_bytes=2 * 1024**3)
_MODEL_BYTES: Final = 64 * 1024**2
_MOST_SHOWN: Final = 5


def add(commands: Commands, common: Parser) -> None:
    demo = commands.add_parser("demo", parents=[common], help="serve a model repository on this machine")
    demo.set_defaults(run=_demo)
    add_doors(demo)
    demo.add_argument("--repository", type=Path, metavar="DIR", help="your own Triton model repository")


async def put_plan(directory: Directory, settings: Settings) -> None:
    document = tomllib.loads((settings.policies / "plans" / "demo.toml").read_text())
    await directory.values.put(plans.parse(document), act=Act(actor(), now_us()))


async def _demo(settings: Settings, given: argparse.Namespace) -> int:
    from gateway.app import opened, serve

    async with opened_directory(settings) as directory:
        await _expect_own(directory, settings)
        names = await _seed(directory, settings)
        minted, operators = await _mint(directory, _TENANT), await _mint(directory, None)
    async with opened(settings, progress=progress) as gateway:
        await serve(
            gateway,
            lambda found: _welcome(found, minted, operators, names=names, settings=settings, given=given),
        )
    return 0


async def _mint(directory: Directory, tenant: str | None) -> Minted:
    """A key of the demo's: its text is known to nobody once this run is over, so each run has its own."""
    expires_us = now_us() + _KEY_SECONDS * 1_000_000
    return await directory.keys.create(tenant, name="demo", expires_us=expires_us, act=Act(actor(), now_us()))


async def _expect_own(directory: Directory, settings: Settings) -> None:
    """Raises StartFailed for a state that an operator has documents in: the demo would change them, and open its models to all."""
    foreign: list[Value] = [it for it in (await directory.values.fleets()).values() if it != _FLEET]
    foreign += [it for it in (await directory.values.models()).values() if it.fleet != _FLEET.name]
    if foreign:
        names = [" ".join(name_of(it)) for it in foreign]
        shown = ", ".join(names[:_MOST_SHOWN]) + (", ..." if len(names) > _MOST_SHOWN else "")
        raise StartFailed(
            f"the state {short(settings.state.resolve())} has what the demo did not make ({shown}); "
            "name another with --state, or serve this one with gateway serve"
        )


async def _seed(directory: Directory, settings: Settings) -> list[str]:
    """The demo's plan, tenant, fleet and models: those of the repository, and no others. Gives the models' names."""
    await put_plan(directory, settings)
    with suppress(AlreadyExists):  # from an earlier run over the same state
        await directory.tenants.create(_TENANT, PLAN, act=Act(actor(), now_us()))
    repository = settings.repository.resolve()
    names = models(repository)
    if not names:
        raise StartFailed(
            f"{repository} holds no model; a model is a folder with config.pbtxt and a version folder in it"
        )
    wanted: list[Value] = [_FLEET, *(_model(repository, name) for name in names)]
    left = [
        replace(it, tenants=()) for it in (await directory.values.models()).values() if it.name not in names
    ]
    declared = Documents(tuple(Document(value) for value in [*wanted, *left]))
    await declare.apply(directory, declared, act=Act(actor(), now_us()))
    return names


def _model(repository: Path, name: str) -> Model:
    """A model of the repository for everyone. Its memory is a guess: a process for it, and its files."""
    files = sum(file.stat().st_size for file in (repository / name).rglob("*") if file.is_file())
    memory_bytes = min(_MODEL_BYTES + files, _FLEET.memory_bytes)
    scaling = Scaling(max_replicas=_FLEET.replicas.max)
    return Model(
        "",
        name,
        str(repository),
        "*",
        _FLEET.name,
        memory_bytes=memory_bytes,
        scaling=scaling,
        openai=_openai(repository, name),
    )


def _openai(repository: Path, name: str) -> Generate | None:
    """A model with the tensors that language models of Triton's have by custom is offered through OpenAI's API too."""
    usual, names = Generate(), tensor_names(repository, name)
    if not {usual.input, usual.output} <= names:
        return None
    taken: tuple[Parameter, ...] = get_args(Parameter)
    return replace(usual, parameters=tuple(it for it in taken if it in names))


def _welcome(
    found: "Addresses",
    minted: Minted,
    operators: Minted,
    *,
    names: list[str],
    settings: Settings,
    given: argparse.Namespace,
) -> None:
    """What a program reads in one line, and a person on one screen."""
    key, operator_key = minted.secret.reveal(), operators.secret.reveal()
    if given.json:
        said = {**doors(found), "tenant": _TENANT, "api_key": key, "operator_key": operator_key}
        print(json.dumps(said), flush=True)
        return
    example = settings.repository.resolve().parent / "examples" / "digit.json"
    call = f"{found.http}/v2/models/{names[0]} -H 'Authorization: Bearer {key}'"
    if "digits" in names and example.exists():
        call = f"{found.http}/v2/models/digits/infer -H 'Authorization: Bearer {key}' -d @{short(example)}"
    print(
        f"The gateway is at {found.http}, for operators at {found.operator}; its models are {', '.join(names)}.\n"
        f"{over_grpc(found)}"
        f"Tenant {_TENANT}, plan {PLAN}, key (shown once, good for seven days):\n\n  {key}\n\n"
        f"An operator's key, for {found.operator}/control/v1:\n\n  {operator_key}\n\n"
        f"No Triton runs yet. The first request starts one and waits for it:\n\n  curl -s {call}\n\n"
        "Ctrl-C ends the gateway and every Triton that it started.",
        flush=True,
    )
