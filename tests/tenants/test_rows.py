"""The stored bytes: what is on somebody's disk today is read for ever, and written the same."""

# long because every kind of row has its bytes here

import msgspec
import pytest
from msgspec import Raw, Struct

from tenants.certificates import TenantCertificate, TenantCertificates
from tenants.conditions import KeyLimits
from tenants.data_keys import DataKeyRecord
from tenants.directory.formats import Format
from tenants.directory.stages import Also, Generation, Stage, Staged, Waiting
from tenants.errors import Unreadable
from tenants.events import Action, Changed, Event, Head
from tenants.fleet import Fleet, Process, Replicas
from tenants.hours import Hours, Window
from tenants.issuers import Issuer, TenantIssuer, TenantIssuers
from tenants.keys import ApiKey
from tenants.members import Account, Member
from tenants.model import Canary, CanaryInput, Model, Scaling, TensorMetadata
from tenants.openai import Generate, Infer, PassThrough
from tenants.plans import Limits, Part, Plan, Prices, Rate, Soft
from tenants.ports import Key, Put, Row
from tenants.privacy import Privacy, Retention, Sampled
from tenants.rows import (
    KeyPointer,
    OwnerPointer,
    Receipt,
    TenantPointer,
    Used,
    new_row,
    read,
    readable,
)
from tenants.tenant import Tenant

GOLDEN: list[tuple[Struct, bytes]] = [
    (TenantPointer("t_1"), b'{"v":1,"tenant_id":"t_1"}'),
    (KeyPointer("t_1", "k_1"), b'{"v":1,"tenant_id":"t_1","key_id":"k_1"}'),
    (
        Tenant("t_1", "acme", "team", "active", 1_700_000_000_000_001),
        b'{"v":1,"id":"t_1","name":"acme","plan":"team","state":"active","created_us":1700000000000001,'
        b'"closes_us":null,"restrictions":null,"kms_key":null,"privacy":null}',
    ),
    (
        ApiKey("k_1", "t_1", "ci", "Ab1z", ("digits",), 5, 9, None),
        b'{"v":1,"id":"k_1","tenant_id":"t_1","name":"ci","hint":"Ab1z","models":["digits"],'
        b'"created_us":5,"expires_us":9,"revoked_us":null,"account_id":null,"successor_id":null,'
        b'"networks":null,"hours":null,"limits":null,"made_by":null,"break_glass":false}',
    ),
    (
        ApiKey("k_1", "operator", "safe", "Ab1z", None, 5, None, None, break_glass=True),
        b'{"v":1,"id":"k_1","tenant_id":"operator","name":"safe","hint":"Ab1z","models":null,'
        b'"created_us":5,"expires_us":null,"revoked_us":null,"account_id":null,"successor_id":null,'
        b'"networks":null,"hours":null,"limits":null,"made_by":null,"break_glass":true}',
    ),
    (
        ApiKey(
            "k_1",
            "t_1",
            "ci",
            "Ab1z",
            None,
            5,
            None,
            None,
            networks=("192.0.2.0/24", "2001:db8::/32"),
            hours=Hours((Window(("mon", "fri"), "08:00", "18:00"),), "Europe/Berlin"),
            limits=KeyLimits(Rate(5.0, 10), 2),
            made_by="k_2",
        ),
        b'{"v":1,"id":"k_1","tenant_id":"t_1","name":"ci","hint":"Ab1z","models":null,'
        b'"created_us":5,"expires_us":null,"revoked_us":null,"account_id":null,"successor_id":null,'
        b'"networks":["192.0.2.0/24","2001:db8::/32"],'
        b'"hours":{"windows":[{"days":["mon","fri"],"from":"08:00","to":"18:00"}],"zone":"Europe/Berlin"},'
        b'"limits":{"requests_per_second":{"rate":5.0,"burst":10},"concurrent_requests":2},"made_by":"k_2","break_glass":false}',
    ),
    (Used(1_700_000_000_000_001), b'{"v":1,"at_us":1700000000000001}'),
    (
        Plan("team", 2, Limits(16777216, Rate(50.0, 100), None)),
        b'{"v":1,"name":"team","weight":2,"limits":{"body_bytes":16777216,'
        b'"requests_per_second":{"rate":50.0,"burst":100}}}',
    ),
    (
        Plan(
            "team",
            2,
            Limits(
                16777216,
                Rate(50.0, 100),
                20,
                100_000,
                200_000,
                36_000.0,
                "500.00",
                Soft("400.00"),
                Part(Rate(20.0, 40)),
                {"digits": Part(concurrent_requests=5)},
            ),
            Prices("USD", "0.10", "0.40", "0.0012"),
        ),
        b'{"v":1,"name":"team","weight":2,"limits":{"body_bytes":16777216,'
        b'"requests_per_second":{"rate":50.0,"burst":100},"concurrent_requests":20,"requests_per_day":100000,'
        b'"tokens_per_minute":200000,"compute_seconds_per_day":36000.0,"money_per_month":"500.00",'
        b'"soft":{"money_per_month":"400.00"},"per_key":{"requests_per_second":{"rate":20.0,"burst":40}},'
        b'"per_model":{"digits":{"concurrent_requests":5}}},"prices":{"currency":"USD",'
        b'"per_1000_requests":"0.10","per_million_tokens":"0.40","per_compute_second":"0.0012"}}',
    ),
    (Privacy("default"), b'{"v":1,"name":"default"}'),
    (
        Privacy(
            "strict",
            ("email", "phone"),
            reversible=True,
            phone_regions=("US",),
            capture=Sampled(0.01),
            retention_days=Retention("forever", 1),
        ),
        b'{"v":1,"name":"strict","mask":["email","phone"],"reversible":true,"phone_regions":["US"],'
        b'"capture":{"sampled":0.01},"retention_days":{"bodies":"forever","capture":1}}',
    ),
    (
        Model("m_1", "digits", "infra/models", "*"),
        b'{"v":1,"id":"m_1","name":"digits","repository":"infra/models","tenants":"*","fleet":"local",'
        b'"memory_bytes":67108864,"scaling":{"max_replicas":1,"target_concurrency":8.0,"idle_seconds":60.0,'
        b'"start_deadline_seconds":30.0},"canary":null,"openai":null,'
        b'"description":"","tags":[],"inputs":[],"outputs":[],"region":null}',
    ),
    (
        Model(
            "m_1",
            "digits",
            "infra/models",
            ("acme",),
            "gpu",
            5,
            Scaling(2, 4.0, 9.0, 8.0),
            Canary((CanaryInput("a", "FP32", (1, 2), (0.5, 1)),)),
            Infer("text", "vector", batched=True),
        ),
        b'{"v":1,"id":"m_1","name":"digits","repository":"infra/models","tenants":["acme"],"fleet":"gpu",'
        b'"memory_bytes":5,"scaling":{"max_replicas":2,"target_concurrency":4.0,"idle_seconds":9.0,'
        b'"start_deadline_seconds":8.0},"canary":{"inputs":[{"name":"a","datatype":"FP32","shape":[1,2],'
        b'"data":[0.5,1]}]},"openai":{"backend":"infer","input":"text","output":"vector","batched":true},'
        b'"description":"","tags":[],"inputs":[],"outputs":[],"region":null}',
    ),
    (
        Model("m_1", "story", "/m", "*", openai=Generate("in", "out", ("max_tokens", "seed"), 9, "{{ x }}")),
        b'{"v":1,"id":"m_1","name":"story","repository":"/m","tenants":"*","fleet":"local",'
        b'"memory_bytes":67108864,"scaling":{"max_replicas":1,"target_concurrency":8.0,"idle_seconds":60.0,'
        b'"start_deadline_seconds":30.0},"canary":null,"openai":{"backend":"generate","input":"in",'
        b'"output":"out","parameters":["max_tokens","seed"],"max_tokens":9,"chat_template":"{{ x }}"},'
        b'"description":"","tags":[],"inputs":[],"outputs":[],"region":null}',
    ),
    (
        Model(
            "m_1",
            "story",
            "",
            "*",
            "",
            openai=PassThrough("127.0.0.1:9000", "llama"),
            description="Writes on.",
            tags=("text",),
            inputs=(TensorMetadata("text_input", "BYTES", (-1,), "the prompt"),),
            outputs=(TensorMetadata("text_output", "BYTES", (1,)),),
        ),
        b'{"v":1,"id":"m_1","name":"story","repository":"","tenants":"*","fleet":"",'
        b'"memory_bytes":67108864,"scaling":{"max_replicas":1,"target_concurrency":8.0,"idle_seconds":60.0,'
        b'"start_deadline_seconds":30.0},"canary":null,"openai":{"backend":"pass-through",'
        b'"address":"127.0.0.1:9000","model":"llama"},'
        b'"description":"Writes on.","tags":["text"],"inputs":[{"name":"text_input","datatype":"BYTES","shape":[-1],'
        b'"description":"the prompt"}],"outputs":[{"name":"text_output","datatype":"BYTES","shape":[1],"description":""}],"region":null}',
    ),
    (
        Fleet("gpu", Process(), Replicas(1, 3), 1073741824, 9.0),
        b'{"v":1,"name":"gpu","scaler":{"type":"process"},"replicas":{"min":1,"max":3},'
        b'"memory_bytes":1073741824,"idle_seconds":9.0}',
    ),
    (
        Event("e_1", 7, "cli:root", Action.KEY_REVOKED, "key/k_1", Raw(b'{"v":1}'), Raw(b"null")),
        b'{"v":1,"id":"e_1","at_us":7,"actor":"cli:root","action":"key.revoked","subject":"key/k_1",'
        b'"before":{"v":1},"after":null,"reason":"","sequence":0}',
    ),
    (
        Member("u_1", "t_1", "a@acme.example", "admin", 5),
        b'{"v":1,"id":"u_1","tenant_id":"t_1","email":"a@acme.example","role":"admin","created_us":5}',
    ),
    (
        Account("s_1", "t_1", "ci", "developer", 5),
        b'{"v":1,"id":"s_1","tenant_id":"t_1","name":"ci","role":"developer","created_us":5}',
    ),
    (OwnerPointer("t_1"), b'{"v":1,"tenant_id":"t_1"}'),
    (OwnerPointer(None), b'{"v":1,"tenant_id":null}'),
    (
        Issuer("https://login.example", "gateway", tenant_claim="tenant"),
        b'{"v":1,"issuer":"https://login.example","audience":"gateway","jwks_url":null,"roles_claim":null,'
        b'"insecure":false,"roles":null,"tenant_claim":"tenant","operators":false}',
    ),
    (
        Issuer("https://a", "gw", "https://a/jwks", "groups", roles={"on-call": "operator"}, operators=True),
        b'{"v":1,"issuer":"https://a","audience":"gw","jwks_url":"https://a/jwks","roles_claim":"groups",'
        b'"insecure":false,"roles":{"on-call":"operator"},"tenant_claim":null,"operators":true}',
    ),
    (
        TenantIssuers(
            "t_1", (TenantIssuer("http://127.0.0.1:9", "gw", None, "r", insecure=True, roles={"a": "admin"}),)
        ),
        b'{"v":1,"tenant_id":"t_1","issuers":[{"issuer":"http://127.0.0.1:9","audience":"gw","jwks_url":null,'
        b'"roles_claim":"r","insecure":true,"roles":{"a":"admin"}}]}',
    ),
    (
        TenantCertificates("t_1", (TenantCertificate("ingest", uri="spiffe://a/b", models=("digits",)),)),
        b'{"v":1,"tenant_id":"t_1","certificates":[{"name":"ingest","uri":"spiffe://a/b","dns":null,"email":null,'
        b'"models":["digits"]}]}',
    ),
    (Head("g_1", 10), b'{"v":1,"stage":"g_1","rolled":10}'),
    (
        Changed(7, 5, ("key/k_1",), (("tenant/t_1", "event/7/00"),)),
        b'{"v":1,"sequence":7,"at_us":5,"subjects":["key/k_1"],"events":[["tenant/t_1","event/7/00"]]}',
    ),
    (Receipt("d", 5, Raw(b'{"v":1}')), b'{"v":1,"asked":"d","at_us":5,"result":{"v":1}}'),
    (
        Generation(3, (("Fleet", "local"),)),
        b'{"v":1,"number":3,"declared":[["Fleet","local"]]}',
    ),
    (
        Stage(2, 7, "cli:root", 5, ""),
        b'{"v":1,"transactions":2,"sequence":7,"actor":"cli:root","at_us":5,"reason":""}',
    ),
    (
        Staged(
            (
                Waiting(
                    Action.PLAN_REMOVED,
                    "team",
                    ("plans", "team"),
                    None,
                    1,
                    Raw(b'{"v":1}'),
                    Raw(b"null"),
                    (Also(("a", "b"), None),),
                ),
            )
        ),
        b'{"v":1,"changes":[{"action":"plan.removed","subject_id":"team","at":["plans","team"],"tenant_id":null,'
        b'"version":1,"before":{"v":1},"after":null,"also":[{"at":["a","b"],"value":null}]}]}',
    ),
    (
        Format(2),
        b'{"v":1,"number":2}',
    ),
    (
        DataKeyRecord("d_1", "t_1", "audit", 5),
        b'{"v":1,"id":"d_1","tenant_id":"t_1","purpose":"audit","made_us":5,"wrapped_with":null,"state":"active",'
        b'"destroys_us":null,"backup_days":null,"wrapped_us":0,"rewrap_us":null}',
    ),
    (
        DataKeyRecord("d_1", "t_1", "replies", 5, "theirs", "destroying", 9, 35, 7, 8),
        b'{"v":1,"id":"d_1","tenant_id":"t_1","purpose":"replies","made_us":5,"wrapped_with":"theirs","state":"destroying",'
        b'"destroys_us":9,"backup_days":35,"wrapped_us":7,"rewrap_us":8}',
    ),
]
golden = pytest.mark.parametrize(
    ("value", "stored"), GOLDEN, ids=[type(value).__name__ for value, _ in GOLDEN]
)
AT = Key("place")


def _model() -> tuple[Struct, bytes]:
    return next(it for it in GOLDEN if isinstance(it[0], Model))


@golden
def test_what_is_written_are_these_bytes(value: Struct, stored: bytes) -> None:
    assert new_row(AT, value) == Put(AT, stored, expected=0)


@golden
def test_these_bytes_are_read_as_this_value(value: Struct, stored: bytes) -> None:
    assert read(Row(AT, stored, 1), type(value)) == value


def test_a_plan_from_before_there_were_more_limits_and_prices_has_none_of_them() -> None:
    stored = (
        b'{"v":1,"name":"team","weight":2,"limits":{"body_bytes":16777216,'
        b'"requests_per_second":{"rate":50.0,"burst":100},"concurrent_requests":null}}'
    )
    assert read(Row(AT, stored, 1), Plan) == Plan("team", 2, Limits(16777216, Rate(50.0, 100), None))


def test_a_model_from_before_there_was_a_catalogue_says_nothing_there() -> None:
    stored = _model()[1].replace(b',"description":"","tags":[],"inputs":[],"outputs":[],"region":null', b"")
    assert read(Row(AT, stored, 1), Model) == _model()[0]


def test_a_tenant_of_a_name_that_is_kept_back_since_is_read() -> None:
    stored = b'{"v":1,"id":"t_1","name":"admin","plan":"team","state":"active","created_us":5}'
    assert read(Row(AT, stored, 1), Tenant).name == "admin"


def test_a_model_from_before_there_were_fleets_is_on_the_local_one() -> None:
    stored = b'{"v":1,"id":"m_1","name":"digits","repository":"infra/models","tenants":["acme"]}'
    assert read(Row(AT, stored, 1), Model) == Model("m_1", "digits", "infra/models", ("acme",), "local")


def test_a_model_from_before_there_was_openai_is_not_offered_there() -> None:
    stored = _model()[1].replace(b',"openai":null', b"")
    assert read(Row(AT, stored, 1), Model) == _model()[0]


def test_a_key_and_a_tenant_from_before_there_were_accounts_conditions_and_closing_have_none() -> None:
    for stored, value in (
        (GOLDEN[3][1].partition(b',"account_id"')[0] + b"}", GOLDEN[3][0]),
        (GOLDEN[3][1].partition(b',"networks"')[0] + b"}", GOLDEN[3][0]),
        (GOLDEN[2][1].partition(b',"closes_us"')[0] + b"}", GOLDEN[2][0]),
    ):
        assert read(Row(AT, stored, 1), type(value)) == value


@pytest.mark.parametrize(
    "later", [b'"hours":{"windows":[],"zone":"UTC","later":1}', b'"limits":{"tokens_per_minute":1}']
)
def test_a_condition_that_is_not_known_whole_closes_the_key(later: bytes) -> None:
    stored = GOLDEN[3][1].replace(b'"hours":null,"limits":null', later)
    with pytest.raises(Unreadable):
        read(Row(AT, stored, 1), ApiKey)


def test_a_part_of_a_row_that_came_later_is_passed_over() -> None:
    stored = _model()[1].replace(b'{"max_replicas"', b'{"later":1,"max_replicas"')
    assert read(Row(AT, stored, 1), Model) == _model()[0]


@golden
def test_an_unknown_version_is_refused(value: Struct, stored: bytes) -> None:
    with pytest.raises(Unreadable):
        read(Row(AT, stored.replace(b'"v":1', b'"v":2', 1), 1), type(value))


@golden
def test_a_field_that_came_later_is_refused_where_it_may_be_a_limit_or_a_condition_and_nowhere_else(
    value: Struct, stored: bytes
) -> None:
    later = Row(AT, stored[:-1] + b',"later":1}', 1)
    if isinstance(value, Plan | Privacy | Issuer | TenantIssuers | TenantCertificates):
        with pytest.raises(Unreadable):
            read(later, type(value))
    else:
        assert read(later, type(value)) == value


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"{",
        b"\xff",
        b"null",
        b'{"v":1}',
        b'{"v":1,"tenant_id":"\xff"}',
        b'{"v":1,"tenant_id":"t_1","later":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=["empty", "cut", "no text", "null", "no field", "no UTF-8", "too deep"],
)
def test_a_damaged_row_is_refused_alone(damaged: bytes) -> None:
    good = Row(Key("good"), GOLDEN[0][1], 1)
    bad = Row(Key("bad"), damaged, 1)
    with pytest.raises(Unreadable):
        read(bad, TenantPointer)
    assert readable({row.key: row for row in (good, bad)}, TenantPointer) == {good.key: TenantPointer("t_1")}


@pytest.mark.parametrize(
    "value",
    [
        TenantPointer("t" * 129),
        KeyPointer("t" * 129, "k_1"),
        KeyPointer("t_1", "k" * 129),
        Tenant("t_1", "acme", "p" * 129, "active", 0),
    ],
)
def test_a_row_that_names_what_no_table_can_hold_is_refused(value: Struct) -> None:
    with pytest.raises(Unreadable):
        read(Row(AT, msgspec.json.encode(value), 1), type(value))
