"""The house rules that a program can check: who imports whom, who may start tasks, how long things get.

The tables come first. A module or package in them stands for itself and all that is inside it.
"""

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("gateway", "tenants", "policies", "infra")

# What is imported -> the only ones in ROOMS that may import it. Tests may import anything.
ONLY = {
    "gateway": ("gateway",),
    "tenants": ("tenants", "gateway"),
    # Only the composition root names a concrete adapter.
    "gateway.stores": ("gateway.stores", "gateway.state", "gateway.state_keys"),
    "gateway.scaling.scalers": ("gateway.scaling.scalers", "gateway.app", "gateway.cli", "gateway.commands"),
    # Only adapters and the upstream import a driver or SDK; a front end speaks a wire that has one.
    **dict.fromkeys(
        ("sqlite3", "aiobotocore", "boto3", "botocore", "kubernetes", "kubernetes_asyncio"),
        ("gateway.stores", "gateway.scaling.scalers"),
    ),
    **dict.fromkeys(
        ("tritonclient", "aiohttp", "httpx", "requests", "urllib3", "urllib.request", "http.client"),
        ("gateway.stores", "gateway.scaling.scalers", "gateway.triton"),
    ),
    **dict.fromkeys(("httptools", "grpc"), ("gateway.triton", "gateway.frontends")),
    "uvicorn": ("gateway.frontends", "gateway.app", "gateway.cli"),
    "starlette": ("gateway.frontends", "gateway.app", "gateway.cli", "tenants.api", "tenants.portal"),
    "cedarpy": ("gateway.authz",),
    "jwt": ("gateway.auth.jwk",),
    "cryptography": (
        "gateway.auth.jwk",
        "gateway.auth.presented",
        "gateway.envelope",
        "gateway.stores",
        "gateway.tls.material",
    ),
    "opentelemetry": ("gateway.telemetry",),
    "prometheus_client": (),
    "yaml": ("tenants.nodes", "tenants.writing"),
    "jinja2": ("gateway.wire.chat",),
    "tokenizers": ("gateway.wire.tokens",),
    **dict.fromkeys(("stdnum", "phonenumbers"), ("gateway.privacy",)),
}

# These decide and never act: no await, nothing of IMPURE, and of our own modules only one another.
PURE_OF = {
    "gateway": "call errors settings wire privacy config",
    "gateway.audit": "record segment denials verify merkle tiles checkpoint",
    "gateway.admission": "fair_order fair_queueing costs slots bucket shares permits budget chunk",
    "gateway.scaling": "breaker decider windows balancer residency draining placements reports",
    "gateway.envelope": "keys derived sealed series",
    "gateway.cluster": "certificates member stillness",
    "gateway.kept": "answer claims",
    "gateway.auth": "reading claims weak jwk jose conditions presented",
    "gateway.telemetry": "table meter sums prometheus traceparent destination",
    "tenants": (
        "acts tenant members model keys ids plans privacy quotas usage fleet openai nodes reading "
        "documents catalogue rows ports conditions hours networks entities events errors names "
        "customer meanings schema issuers certificates holdings outline urls writing restrictions "
        "data_keys kms"
    ),
    "tenants.api": "problems strict bodies",
    "gateway.tls": "errors material",
    "gateway.supervision": "plan",
}
PURE = tuple(f"{room}.{name}" for room, names in PURE_OF.items() for name in names.split())
PARSERS = ("yaml", "jinja2", "tokenizers", "jwt", "cryptography", "stdnum", "phonenumbers")  # they decide too
IMPURE = (
    *("time", "random", "secrets", "asyncio", "anyio", "threading", "concurrent", "multiprocessing"),
    *("socket", "ssl", "select", "selectors", "subprocess", "http", "urllib.request", "uvloop"),
    *(name for name in ONLY if not name.startswith(("gateway", "tenants", *PARSERS))),
)

STARTS_TASKS = ("create_task", "ensure_future", "TaskGroup", "create_task_group")
MAY_START_TASKS = ("gateway.loops",)
TELLS_TIME = {f"time.{name}" for name in ("monotonic", "perf_counter", "process_time", "thread_time")}

FILE_LINES, FUNCTION_LINES = 400, 60
EXCUSE = "# long because"  # not indented: for the file; inside a function: for that function

FORBIDDEN_TEXT = {
    "a package registry's address": re.compile(
        r"py[p]i\.org|python[h]osted\.org|registry\.(npm|yarn)\w+|artifactor[y]"
        r"|://[^\s/]+(/[\w+-]+)*/\+?simple\b|index-url\s*[= ]\s*http|^[\w.\[\],-]+ @ (https?|file):",
        re.MULTILINE,
    ),
    "an absolute home path": re.compile(r"(?<![\w.~-])/(home/\w|Users/\w|root/[\w.])"),
}


# The checkers: from sources to sentences that say what is wrong. No sentence, no fault.


def within(name: str, places: Iterable[str]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def module_of(path: PurePosixPath) -> str:
    return ".".join(path.parent.parts if path.name == "__init__.py" else path.with_suffix("").parts)


def imports(path: PurePosixPath, nodes: Sequence[ast.AST]) -> Iterator[str]:
    """Dotted names, also those inside functions; `from a import b` gives `a.b`, whatever b is."""
    package = path.parent.parts
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            start = ".".join((*base, *filter(None, [node.module])))
            yield from (f"{start}.{alias.name}" for alias in node.names)


def import_faults(path: PurePosixPath, nodes: Sequence[ast.AST]) -> Iterator[str]:
    module = module_of(path)
    for name in imports(path, nodes):
        for owned, allowed in ONLY.items():
            if within(name, [owned]) and not within(module, allowed):
                yield f"imports {name}: only {', '.join(allowed)} may"
        if within(module, PURE):
            ours = within(name, ("gateway", "tenants")) and not within(name, PURE)
            if ours or within(name, IMPURE):
                yield f"is pure and imports {name}"


def await_faults(path: PurePosixPath, nodes: Sequence[ast.AST]) -> Iterator[str]:
    if within(module_of(path), PURE):
        for node in nodes:
            match node:
                case ast.AsyncFunctionDef(body=body) if not all(map(is_stub, body)):
                    yield f"is pure and {node.name} waits"
                case ast.Await() | ast.AsyncFor() | ast.AsyncWith() | ast.comprehension(is_async=1):
                    yield "is pure and waits"


def is_stub(statement: ast.stmt) -> bool:
    """A docstring or `...`: all that the method of a port has, which waits elsewhere."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def task_faults(path: PurePosixPath, nodes: Sequence[ast.AST]) -> Iterator[str]:
    if within(module_of(path), MAY_START_TASKS):
        return
    for node in nodes:
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name) | ast.alias(name=name) if name in STARTS_TASKS:
                yield f"uses {name} in line {node.lineno}: only {', '.join(MAY_START_TASKS)} starts tasks"


def timing_faults(path: PurePosixPath, nodes: Sequence[ast.AST]) -> Iterator[str]:
    attributes = (ast.unparse(it) for it in nodes if isinstance(it, ast.Attribute))
    if path.name.startswith("test_") and not TELLS_TIME.isdisjoint([*imports(path, nodes), *attributes]):
        yield "times something: how much work it is can be counted (tests/work.py), and its speed is for tests/bench"


def length_faults(source: str, nodes: Sequence[ast.AST]) -> Iterator[str]:
    lines = source.splitlines()
    if len(lines) > FILE_LINES and not any(line.startswith(EXCUSE) for line in lines):
        yield f"has {len(lines)} lines, more than {FILE_LINES}, and gives no reason"
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = lines[node.lineno - 1 : node.end_lineno]
            if len(body) > FUNCTION_LINES and not any(line.strip().startswith(EXCUSE) for line in body):
                yield f"{node.name} has {len(body)} lines, more than {FUNCTION_LINES}, and gives no reason"


def text_faults(text: str) -> Iterator[str]:
    for what, pattern in FORBIDDEN_TEXT.items():
        yield from (f"names {what}: {found.group()}" for found in pattern.finditer(text))


def introduces_itself(folder: Path) -> bool:
    """By a README or a package docstring; a folder of scripts, no package, by the docstring of each."""
    package = folder / "__init__.py"
    files = [package] if package.exists() else folder.glob("*.py")
    return (folder / "README.md").exists() or all(
        ast.get_docstring(ast.parse(file.read_text())) for file in files
    )


def python_faults(path: PurePosixPath, source: str) -> list[str]:
    nodes = list(ast.walk(ast.parse(source, str(path))))
    faults = [*length_faults(source, nodes), *timing_faults(path, nodes)]
    if path.parts[0] in ROOMS:
        faults += [*import_faults(path, nodes), *await_faults(path, nodes), *task_faults(path, nodes)]
    return faults


# The house as it stands.


def house() -> list[Path]:
    """Every file that is or could be committed. Outside a clone, all but hidden folders and caches."""
    if (ROOT / ".git").exists():
        listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split(
            "\0"
        )
        return [ROOT / name for name in names if name and (ROOT / name).is_file()]
    skipped = (".?*", "__pycache__", "*.egg-info", "dist")
    return [
        path
        for path in ROOT.rglob("*")
        if path.is_file()
        and not any(fnmatch(part, skip) for part in path.relative_to(ROOT).parts for skip in skipped)
    ]


def relative(path: Path) -> PurePosixPath:
    return PurePosixPath(path.relative_to(ROOT).as_posix())


def test_every_module_keeps_to_its_room_and_its_length() -> None:
    files = [path for path in house() if path.suffix == ".py"]
    assert files
    assert [
        f"{relative(path)} {fault}"
        for path in files
        for fault in python_faults(relative(path), path.read_text())
    ] == []


def test_every_room_says_what_question_it_answers() -> None:
    rooms = {path.parent for path in house() if path.suffix == ".py" and relative(path).parts[0] in ROOMS}
    assert [str(relative(room)) for room in sorted(rooms) if not introduces_itself(room)] == []


def test_no_file_names_a_registry_or_a_home() -> None:
    faults = []
    for path in house():
        content = path.read_bytes()
        if b"\0" not in content:
            faults += [
                f"{relative(path)} {fault}" for fault in text_faults(content.decode("utf-8", "replace"))
            ]
    assert faults == []


# The checkers catch what they are for.


@pytest.mark.parametrize(
    ("path", "source", "faults"),
    [
        ("tenants/directory.py", "import gateway.call", 1),
        ("tenants/directory.py", "from gateway import call", 1),
        ("tenants/directory.py", "def f():\n    from gateway.call import Chunk", 1),
        ("tenants/directory.py", "from tenants.ports import Table\nfrom . import keys", 0),
        ("policies/__init__.py", "import tenants", 1),
        ("infra/train.py", "from gateway import call", 1),
        ("infra/train.py", "import numpy", 0),
        ("gateway/pipeline.py", "from gateway.stores.sqlite import SqliteTable", 1),
        ("gateway/pipeline.py", "from .stores import sqlite", 1),
        ("gateway/pipeline.py", "from gateway import stores", 1),
        ("gateway/state.py", "from gateway.stores.sqlite import SqliteTable", 0),
        ("gateway/app.py", "from gateway.stores.sqlite import SqliteTable", 1),
        ("gateway/state/__init__.py", "from ..stores import sqlite", 0),
        ("gateway/audit/ledger.py", "from ..stores import files", 1),
        ("gateway/scaling/__init__.py", "from .scalers import process", 1),
        ("gateway/scaling/throttler.py", "from .scaler import Scaler", 0),
        ("gateway/scaling/scalers/ecs.py", "import aiobotocore.session\nfrom . import process", 0),
        ("gateway/audit/ledger.py", "import sqlite3", 1),
        ("gateway/stores/sqlite.py", "import sqlite3", 0),
        ("gateway/admission/limiter.py", "import tritonclient.http", 1),
        ("gateway/auth/jwks.py", "import urllib.request", 1),
        ("gateway/auth/jwks.py", "import urllib.parse", 0),
        ("gateway/pipeline.py", "from starlette.requests import Request", 1),
        ("gateway/frontends/oip_rest.py", "from starlette.requests import Request", 0),
        ("gateway/triton/client.py", "import uvicorn", 1),
        ("gateway/pipeline.py", "import cedarpy", 1),
        ("gateway/wire/oip.py", "import asyncio", 1),
        ("gateway/wire/oip.py", "from time import monotonic", 1),
        ("gateway/wire/oip.py", "from gateway.triton import client", 1),
        ("gateway/wire/oip.py", "from gateway.call import Chunk\nfrom . import tensors\nimport msgspec", 0),
        ("gateway/wire/oip.py", "async def f(): return 1", 1),
        ("gateway/wire/oip.py", "def f(): return (x async for x in y)", 1),
        (
            "gateway/call.py",
            "class Port(Protocol):\n    async def f(self) -> None:\n        'What is true.'",
            0,
        ),
        ("tenants/quotas.py", "import socket\nimport random", 2),
        ("tenants/quotas.py", "import grpc", 2),
        ("tests/test_x.py", "from time import monotonic", 1),
        ("tests/test_x.py", "import time\nbefore = time.process_time()", 1),
        ("tests/bench/x.py", "import time\nbefore = time.process_time()", 0),
        ("gateway/audit/record.py", "from gateway.audit.ledger import Ledger", 1),
        ("gateway/audit/ledger.py", "import asyncio\nasync def f(): await g()", 0),
        ("gateway/pipeline.py", "asyncio.create_task(f())", 1),
        ("gateway/pipeline.py", "from asyncio import ensure_future", 1),
        ("gateway/pipeline.py", "asyncio.get_running_loop().create_task(f())", 1),
        ("gateway/pipeline.py", "async def f():\n    async with asyncio.TaskGroup() as group: ...", 1),
        ("gateway/loops.py", "asyncio.create_task(f())", 0),
        ("tests/test_app.py", "import sqlite3, gateway.stores\nasyncio.create_task(f())", 0),
        ("tests/test_app.py", "x = 1\n" * 401, 1),
        ("tests/test_app.py", "x = 1\n" * 400, 0),
        ("tests/test_app.py", "# long because it is a table\n" + "x = 1\n" * 400, 0),
        ("gateway/pipeline.py", "def f():\n" + "    x = 1\n" * 60, 1),
        ("gateway/pipeline.py", "def f():\n" + "    x = 1\n" * 59, 0),
        ("gateway/pipeline.py", "def f():\n    # long because it is a table\n" + "    x = 1\n" * 60, 0),
        (
            "gateway/pipeline.py",
            "# long because of f\nclass A:\n  async def f(self):\n" + "    x = 1\n" * 60,
            1,
        ),
    ],
)
def test_a_module_that_breaks_a_rule_is_named_and_one_that_does_not_is_left_alone(
    path: str, source: str, faults: int
) -> None:
    found = python_faults(PurePosixPath(path), source)
    assert len(found) == faults, found


@pytest.mark.parametrize(  # ~~ is taken out: this file must not name one either
    ("text", "faults"),
    [
        ("see https://py~~pi.org/project/x", 1),
        ("https://files.python~~hosted.org/packages/x.whl", 1),
        ("--extra-index-~~url http://10.0.0.1/", 1),
        ("http://mirror.example:3141/root/pypi/+sim~~ple/ https://mirror.example/sim~~ple/", 2),
        ("a\nnumpy @ ~~file:///wheels/numpy.whl\n", 1),
        ("numpy==1.26.4\nmsgspec>=0.22\nhttps://www.example.com/a-simple-guide", 0),
        ("cd /ho~~me/somebody/src", 1),
        ("open('/Us~~ers/somebody')", 1),
        ("HOME=/ro~~ot/.cache", 1),
        ("http://127.0.0.1/v2/models/home/ready ~/home/x /root docs/root/x", 0),
    ],
)
def test_a_registry_or_a_home_in_a_text_is_named(text: str, faults: int) -> None:
    found = list(text_faults(text.replace("~~", "")))
    assert len(found) == faults, found


@pytest.mark.parametrize(
    ("files", "introduced"),
    [
        ({"__init__.py": '"""What for?"""', "a.py": ""}, "yes"),
        ({"__init__.py": "", "a.py": '"""A."""'}, "no"),
        ({"__init__.py": "", "README.md": "# a"}, "yes"),
        ({"model.py": '"""A script."""'}, "yes"),
        ({"model.py": '"""A script."""', "other.py": ""}, "no"),
    ],
)
def test_a_folder_without_a_word_about_itself_is_found(
    tmp_path: Path, files: dict[str, str], introduced: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert introduces_itself(tmp_path) == (introduced == "yes")
