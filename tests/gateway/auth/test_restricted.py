"""What a tenant restricts itself to reaches the policies by every credential of it."""

from pathlib import Path

import pytest

import policies
from gateway.auth.known import model_view, principal_of
from gateway.authz.cedar import Authorizer
from tenants.directory import Credentials
from tenants.keys import ApiKey
from tenants.model import Model
from tenants.plans import Limits, Plan
from tenants.restrictions import Restrictions
from tenants.tenant import Tenant

AUTHORIZER = Authorizer.load(Path(policies.__file__).parent)


@pytest.mark.parametrize(
    ("restrictions", "region", "decided"),
    [
        (None, None, ("tenant-has-model",)),
        (Restrictions(regions=("eu-west",)), "eu-west", ("tenant-has-model",)),
        (Restrictions(regions=("eu-west",)), "us-east", ("tenant-restricts-regions",)),
        (Restrictions(regions=("eu-west",)), None, ("tenant-restricts-regions",)),
        (Restrictions(models=("digits",)), None, ("tenant-has-model",)),
        (Restrictions(models=("story",)), None, ("tenant-restricts-models",)),
        (Restrictions(networks=("192.0.2.0/24",)), None, ("tenant-has-model",)),  # not of the policies
    ],
)
def test_a_key_is_narrowed_by_what_its_tenant_restricts_itself_to(
    restrictions: Restrictions | None, region: str | None, decided: tuple[str, ...]
) -> None:
    tenant = Tenant("t_1", "acme", "team", "active", 1, restrictions=restrictions)
    key = ApiKey("k_1", "t_1", "ci", "abcd", None, 1, None, None)
    principal = principal_of(Credentials(key, tenant, Plan("team", 1, Limits(1)), None))
    assert principal is not None
    model = model_view(Model("m_1", "digits", "/m", "*", region=region))
    assert AUTHORIZER.decide(principal.subject, "discover", model).allowed
    assert AUTHORIZER.decide(principal.subject, "infer", model).policies == decided
