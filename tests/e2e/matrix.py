"""THE matrix: what each route and RPC answers to each kind of credential, where all that it needs is there.

A row is a route, by its operation or its method and path, or an RPC by its full name. A column is a kind of credential:

    operator    an operator's key or token                 limited     of a developer's account, for another model than the one asked for
    admin ...   a key of an account of that role, or a     plain       of no account, or a token of an issuer that says no roles
                token that gives it                        stranger    of an admin of another tenant than the one asked about
    suspended   of an admin whose tenant is not served     nobody      none, or one that does not work
    break-glass a key for emergencies, and no reason; with one it is as an operator's. Not there in a table: as operator
    roleless    a token of an issuer that says roles, and none. Not there in a table: as plain, and with models as billing

A cell is what is said. At the listener where a credential does not work it is nobody's.

    ok   it is done                                        404  there is no such thing: it is another tenant's, or nobody's
    401  who is that?                                      -    there is nothing at this path, and no such RPC
    403  known, and may not
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

_CONTROL: Final = """
                         operator break-glass admin developer viewer billing limited plain suspended stranger nobody
whoami                         ok         403    ok        ok     ok      ok      ok    ok        ok       ok    401
listTenants                    ok         403   403       403    403     403     403   403       403      403    401
createTenant                   ok         403   403       403    403     403     403   403       403      403    401
showTenant                     ok         403    ok        ok     ok      ok      ok   403        ok      404    401
changeTenant                   ok         403   403       403    403     403     403   403       403      404    401
suspendTenant                  ok         403   403       403    403     403     403   403       403      404    401
resumeTenant                   ok         403   403       403    403     403     403   403       403      404    401
closeTenant                    ok         403   403       403    403     403     403   403       403      404    401
reopenTenant                   ok         403   403       403    403     403     403   403       403      404    401
showTenantPlan                 ok         403    ok        ok     ok      ok      ok   403        ok      404    401
listTenantUsage                ok         403    ok        ok     ok      ok      ok   403        ok      404    401
showTenantPrivacy              ok         403    ok        ok     ok      ok      ok   403        ok      404    401
listTenantModels               ok         403    ok        ok     ok     403      ok   403        ok      404    401
listTenantAudit                ok         403    ok        ok     ok     403      ok   403        ok      404    401
showTenantIssuers              ok         403    ok        ok     ok     403      ok   403        ok      404    401
changeTenantIssuers            ok         403   403       403    403     403     403   403       403      404    401
showTenantCertificates         ok         403    ok        ok     ok     403      ok   403        ok      404    401
changeTenantCertificates       ok         403   403       403    403     403     403   403       403      404    401
showTenantRestrictions         ok         403    ok        ok     ok     403      ok   403        ok      404    401
putTenantRestrictions          ok         403    ok       403    403     403     403   403       403      404    401
deleteTenantRestrictions       ok         403    ok       403    403     403     403   403       403      404    401
listMembers                    ok         403    ok        ok     ok     403      ok   403        ok      404    401
inviteMember                   ok         403    ok       403    403     403     403   403       403      404    401
showMember                     ok         403    ok        ok     ok     403      ok   403        ok      404    401
changeMember                   ok         403    ok       403    403     403     403   403       403      404    401
removeMember                   ok         403    ok       403    403     403     403   403       403      404    401
listAccounts                   ok         403    ok        ok     ok     403      ok   403        ok      404    401
createAccount                  ok         403    ok       403    403     403     403   403       403      404    401
showAccount                    ok         403    ok        ok     ok     403      ok   403        ok      404    401
changeAccount                  ok         403    ok       403    403     403     403   403       403      404    401
removeAccount                  ok         403    ok       403    403     403     403   403       403      404    401
listKeys                       ok         403    ok        ok     ok     403      ok   403        ok      404    401
createKey                      ok         403    ok        ok    403     403     403   403       403      404    401
showKey                        ok         403    ok        ok     ok     403      ok   403        ok      404    401
rotateKey                      ok         403    ok        ok    403     403     403   403       403      404    401
revokeKey                      ok         403    ok        ok    403     403     403   403       403      404    401
listDataKeys                   ok         403    ok        ok     ok     403      ok   403        ok      404    401
showDataKey                    ok         403    ok        ok     ok     403      ok   403        ok      404    401
rotateDataKey                  ok         403    ok       403    403     403     403   403       403      404    401
rewrapDataKey                  ok         403    ok       403    403     403     403   403       403      404    401
destroyDataKey                 ok         403    ok       403    403     403     403   403       403      404    401
keepDataKey                    ok         403    ok       403    403     403     403   403       403      404    401
listOperatorKeys               ok         403   403       403    403     403     403   403       403      403    401
createOperatorKey              ok         403   403       403    403     403     403   403       403      403    401
showOperatorKey                ok         403   403       403    403     403     403   403       403      403    401
rotateOperatorKey              ok         403   403       403    403     403     403   403       403      403    401
revokeOperatorKey              ok         403   403       403    403     403     403   403       403      403    401
reportLeak                     ok         403   403       403    403     403     403   403       403      403    401
listPlans                      ok         403   403       403    403     403     403   403       403      403    401
showPlan                       ok         403   403       403    403     403     403   403       403      403    401
putPlan                        ok         403   403       403    403     403     403   403       403      403    401
deletePlan                     ok         403   403       403    403     403     403   403       403      403    401
listPrivacies                  ok         403   403       403    403     403     403   403       403      403    401
showPrivacy                    ok         403   403       403    403     403     403   403       403      403    401
putPrivacy                     ok         403   403       403    403     403     403   403       403      403    401
deletePrivacy                  ok         403   403       403    403     403     403   403       403      403    401
listModels                     ok         403   403       403    403     403     403   403       403      403    401
showModel                      ok         403   403       403    403     403     403   403       403      403    401
putModel                       ok         403   403       403    403     403     403   403       403      403    401
deleteModel                    ok         403   403       403    403     403     403   403       403      403    401
listFleets                     ok         403   403       403    403     403     403   403       403      403    401
showFleet                      ok         403   403       403    403     403     403   403       403      403    401
putFleet                       ok         403   403       403    403     403     403   403       403      403    401
deleteFleet                    ok         403   403       403    403     403     403   403       403      403    401
listIssuers                    ok         403   403       403    403     403     403   403       403      403    401
showIssuer                     ok         403   403       403    403     403     403   403       403      403    401
putIssuer                      ok         403   403       403    403     403     403   403       403      403    401
deleteIssuer                   ok         403   403       403    403     403     403   403       403      403    401
listAudit                      ok         403   403       403    403     403     403   403       403      403    401
showAuditKeys                 403         403    ok       403    403     403     403   403        ok       ok    401
"""

_DOORS: Final = """
                                                           operator admin developer viewer billing limited plain suspended stranger nobody
GET /control/openapi.json                                        ok    ok        ok     ok      ok      ok    ok        ok       ok     ok
GET /metrics                                                     ok    ok        ok     ok      ok      ok    ok        ok       ok     ok
GET /healthz                                                     ok    ok        ok     ok      ok      ok    ok        ok       ok     ok
GET /readyz                                                      ok    ok        ok     ok      ok      ok    ok        ok       ok     ok
GET /v2/health/live                                              ok    ok        ok     ok      ok      ok    ok        ok       ok     ok
GET /v2/health/ready                                             ok    ok        ok     ok      ok      ok    ok        ok       ok     ok
GET /v2                                                         401    ok        ok     ok      ok      ok    ok        ok       ok    401
GET /v2/models/{model}                                          401    ok        ok     ok     403     403    ok       403      404    401
GET /v2/models/{model}/ready                                    401    ok        ok     ok     403     403    ok       403      404    401
GET /v2/models/{model}/stats                                    401    ok        ok     ok     403     403    ok       403      404    401
GET /v2/models/{model}/config                                   401    ok        ok     ok     403     403    ok       403      404    401
POST /v2/models/{model}/infer                                   401    ok        ok    403     403     403    ok       403      404    401
POST /v2/models/{model}/generate                                401    ok        ok    403     403     403    ok       403      404    401
POST /v2/models/{model}/generate_stream                         401    ok        ok    403     403     403    ok       403      404    401
GET /v2/models/{model}/versions/{version}                       401    ok        ok     ok     403     403    ok       403      404    401
GET /v2/models/{model}/versions/{version}/ready                 401    ok        ok     ok     403     403    ok       403      404    401
GET /v2/models/{model}/versions/{version}/stats                 401    ok        ok     ok     403     403    ok       403      404    401
GET /v2/models/{model}/versions/{version}/config                401    ok        ok     ok     403     403    ok       403      404    401
POST /v2/models/{model}/versions/{version}/infer                401    ok        ok    403     403     403    ok       403      404    401
POST /v2/models/{model}/versions/{version}/generate             401    ok        ok    403     403     403    ok       403      404    401
POST /v2/models/{model}/versions/{version}/generate_stream      401    ok        ok    403     403     403    ok       403      404    401
GET /v1/models                                                  401    ok        ok     ok      ok      ok    ok        ok       ok    401
GET /v1/models/{model}                                          401    ok        ok    403     403     403    ok       403      404    401
POST /v1/chat/completions                                       401    ok        ok    403     403     403    ok       403      404    401
POST /v1/completions                                            401    ok        ok    403     403     403    ok       403      404    401
POST /v1/embeddings                                             401    ok        ok    403     403     403    ok       403      404    401
"""

_RPCS: Final = """
                                                             operator admin developer viewer billing limited plain suspended stranger nobody
/inference.GRPCInferenceService/ServerLive                         ok    ok        ok     ok      ok      ok    ok        ok       ok     ok
/inference.GRPCInferenceService/ServerReady                        ok    ok        ok     ok      ok      ok    ok        ok       ok     ok
/inference.GRPCInferenceService/ServerMetadata                    401    ok        ok     ok      ok      ok    ok        ok       ok    401
/inference.GRPCInferenceService/ModelReady                        401    ok        ok     ok     403     403    ok       403      404    401
/inference.GRPCInferenceService/ModelMetadata                     401    ok        ok     ok     403     403    ok       403      404    401
/inference.GRPCInferenceService/ModelConfig                       401    ok        ok     ok     403     403    ok       403      404    401
/inference.GRPCInferenceService/ModelStatistics                   401    ok        ok     ok     403     403    ok       403      404    401
/inference.GRPCInferenceService/ModelInfer                        401    ok        ok    403     403     403    ok       403      404    401
/inference.GRPCInferenceService/ModelStreamInfer                  401    ok        ok    403     403     403    ok       403      404    401
/grpc.health.v1.Health/Check                                       ok    ok        ok     ok      ok      ok    ok        ok       ok     ok
/grpc.health.v1.Health/Watch                                       ok    ok        ok     ok      ok      ok    ok        ok       ok     ok
/inference.GRPCInferenceService/RepositoryIndex                   401     -         -      -       -       -     -         -        -    401
/inference.GRPCInferenceService/RepositoryModelLoad               401     -         -      -       -       -     -         -        -    401
/inference.GRPCInferenceService/RepositoryModelUnload             401     -         -      -       -       -     -         -        -    401
/inference.GRPCInferenceService/SystemSharedMemoryStatus          401     -         -      -       -       -     -         -        -    401
/inference.GRPCInferenceService/SystemSharedMemoryRegister        401     -         -      -       -       -     -         -        -    401
/inference.GRPCInferenceService/SystemSharedMemoryUnregister      401     -         -      -       -       -     -         -        -    401
/inference.GRPCInferenceService/CudaSharedMemoryStatus            401     -         -      -       -       -     -         -        -    401
/inference.GRPCInferenceService/CudaSharedMemoryRegister          401     -         -      -       -       -     -         -        -    401
/inference.GRPCInferenceService/CudaSharedMemoryUnregister        401     -         -      -       -       -     -         -        -    401
/inference.GRPCInferenceService/TraceSetting                      401     -         -      -       -       -     -         -        -    401
/inference.GRPCInferenceService/LogSettings                       401     -         -      -       -       -     -         -        -    401
/grpc.health.v1.Health/List                                       401     -         -      -       -       -     -         -        -    401
/grpc.reflection.v1.ServerReflection/ServerReflectionInfo         401     -         -      -       -       -     -         -        -    401
"""

CELLS: Final = frozenset({"ok", "401", "403", "404", "-"})
NOBODY: Final = "nobody"

Row = MappingProxyType[str, str]


def read(text: str, alike: Mapping[str, str]) -> dict[str, Row]:
    """The rows of a table whose first line names its columns, and the columns that are like another. Raises ValueError for a row that is
    there twice or is not whole.
    """
    first, *lines = text.strip("\n").splitlines()
    columns, found = first.split(), dict[str, Row]()
    for line in lines:
        words = line.split()
        label, cells = " ".join(words[: -len(columns)]), words[-len(columns) :]
        if not label or label in found or not CELLS.issuperset(cells):
            raise ValueError(f"no row of {len(columns)} cells, or one twice: {line}")
        row = dict(zip(columns, cells, strict=True))
        found[label] = MappingProxyType(row | {column: row[like] for column, like in alike.items()})
    return found


_OF_MODELS: Final = {"break-glass": "operator", "roleless": "billing"}
CONTROL: Final = read(_CONTROL, {"roleless": "plain"})
DOORS: Final = read(_DOORS, _OF_MODELS)
RPCS: Final = read(_RPCS, _OF_MODELS)


def faults(rows: Iterable[str], there: Iterable[str]) -> Iterator[str]:
    """What is wrong with the rows for what there is: a sentence for each that has none, and for each of nothing."""
    rows, there = set(rows), set(there)
    yield from (f"{label} has no row in the matrix: who may ask for it?" for label in sorted(there - rows))
    yield from (f"{label} has a row in the matrix, and is not there" for label in sorted(rows - there))
