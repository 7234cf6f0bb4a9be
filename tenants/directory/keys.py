"""The API keys of the directory, tenants' and operators', and what a gateway asks of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from tenants import keys, names, tenant
from tenants.acts import Act
from tenants.conditions import UNBOUND, Terms
from tenants.directory.journal import Journal, Judged, Page
from tenants.directory.members import check_open
from tenants.directory.tenants import Tenants
from tenants.errors import Invalid, NotFound
from tenants.events import Action
from tenants.ids import is_id
from tenants.keys import WORKING, ApiKey, Secret
from tenants.members import Account
from tenants.model import Model
from tenants.plans import Plan
from tenants.ports import MOST_KEYS, Row
from tenants.privacy import Privacy
from tenants.rows import (
    OPERATOR,
    Change,
    KeyPointer,
    TenantPointer,
    account_at,
    digest_at,
    encoded,
    key_at,
    model_at,
    new_row,
    plan_at,
    privacy_at,
    read,
    readable,
    tenant_at,
)
from tenants.tenant import Tenant

MOST_MODELS: Final = 100


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the directory knows of a tenant's key. Whether it works now is for the caller to judge."""

    key: ApiKey
    tenant: Tenant
    plan: Plan
    account: Account | None = None
    privacy: Privacy | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose key it is, for who controls: an operator's has no tenant, and one without an account controls nothing."""

    key: ApiKey
    tenant: Tenant | None
    account: Account | None


@dataclass(frozen=True, slots=True)
class Minted:
    """A new key, and its text: nobody can get that again."""

    key: ApiKey
    secret: Secret


@dataclass(frozen=True, slots=True)
class Keys:
    """Where a tenant's name is asked for, None means the operators."""

    journal: Journal
    tenants: Tenants

    async def create(
        self,
        tenant_name: str | None,
        act: Act,
        *,
        name: str = "",
        models: tuple[str, ...] | None = None,
        expires_us: int | None = None,
        account_id: str | None = None,
        break_glass: bool = False,
        terms: Terms = UNBOUND,
    ) -> Minted:
        """A new key for some models, or with None for all that the tenant has; of a service account, or of none; under these terms.

        Repeated: another key; a first one whose text was lost shows in the list and can be revoked.
        """
        names.KEY.check(name, "name")
        if keys.is_told_by(name):
            raise Invalid("name", keys.TOLD)
        if expires_us is not None and expires_us <= act.at_us:
            raise Invalid("expires_us", "is in the past")
        if expires_us is not None and expires_us > act.at_us + keys.MOST_SECONDS * 1_000_000:
            raise Invalid("expires_us", f"is more than {keys.MOST_SECONDS // 86_400} days away")
        if tenant_name is None and (models is not None or account_id is not None):
            raise Invalid("models" if models is not None else "account_id", "an operator's key has none")
        if tenant_name is None and terms.limits is not None:
            raise Invalid("limits", "an operator's key has none")
        for fault in terms.faults():
            raise fault

        if tenant_name is not None and break_glass:
            raise Invalid("break_glass", "is for keys of operators")

        async def judge() -> Judged[Minted]:
            owner_id = await self._owner_id(tenant_name, act.at_us)
            if models is not None:
                await self._check_models(tenant_name or "", models)
            if account_id is not None:
                await self._check_account(owner_id, account_id)
            wanted = ApiKey(
                id="",
                tenant_id=owner_id,
                name=name,
                hint="",
                models=models,
                created_us=act.at_us,
                expires_us=expires_us,
                revoked_us=None,
                account_id=account_id,
                break_glass=break_glass,
                networks=terms.networks,
                hours=terms.hours,
                limits=terms.limits,
                made_by=act.key_id,
            )
            minted, change = self._mint(wanted)
            return Judged(minted, (change,), minted.key)

        return await self.journal.change(act, judge)

    async def rotate(
        self, tenant_name: str | None, key_id: str, act: Act, *, overlap_seconds: float
    ) -> Minted:
        """A new key with the same rights, terms and end; the old one ends after the overlap, if not earlier.

        Repeated: another new key while the old one works, Invalid after. Raises NotFound where its account is gone: so is what it may do.
        """
        if not 0 <= overlap_seconds <= keys.MOST_SECONDS:
            raise Invalid("overlap_seconds", f"must be 0 to {keys.MOST_SECONDS}")

        async def judge() -> Judged[Minted]:
            owner_id = await self._owner_id(tenant_name, act.at_us)
            row = await self._row(owner_id, key_id)
            old = read(row, ApiKey)
            if (state := keys.state(old, act.at_us)) not in WORKING:
                raise Invalid("key", f"is {state}")
            if old.account_id is not None:
                await self._check_account(owner_id, old.account_id)
            wanted = replace(
                old,
                created_us=act.at_us,
                expires_us=await self.meant_to_end_us(old),
                successor_id=None,
                made_by=act.key_id,
            )
            minted, creation = self._mint(wanted)
            end_us = act.at_us + round(overlap_seconds * 1_000_000)
            end_us = end_us if old.expires_us is None else min(old.expires_us, end_us)
            ending = replace(old, expires_us=end_us, successor_id=minted.key.id)
            rotation = Change(
                Action.KEY_ROTATED, key_id, row.key, row, encoded(ending), self._event_owner(owner_id)
            )
            return Judged(minted, (creation, rotation), minted.key)

        return await self.journal.change(act, judge)

    async def revoke(self, tenant_name: str | None, key_id: str, act: Act) -> ApiKey:
        """The revoked key. Repeated: the same, with the first time and without another event."""

        async def judge() -> Judged[ApiKey]:
            row = await self._row(await self._any_owner_id(tenant_name), key_id)
            before = read(row, ApiKey)
            if before.revoked_us is not None:
                return Judged(before, stored=before)
            after = replace(before, revoked_us=act.at_us)
            owner_id = self._event_owner(before.tenant_id)
            change = Change(Action.KEY_REVOKED, key_id, row.key, row, encoded(after), owner_id)
            return Judged(after, (change,), after)

        return await self.journal.change(act, judge)

    async def broke_glass(self, key_id: str, act: Act) -> None:
        """A break-glass key is about to be used for a request: that is told to everybody who reads events, or the request is not made.
        Repeated: another event.
        """

        async def judge() -> Judged[None]:
            row = await self._row(OPERATOR, key_id)
            return Judged(None, (Change(Action.KEY_USED, key_id, row.key, row, row.value),))

        await self.journal.change(act, judge)

    async def show(self, tenant_name: str | None, key_id: str) -> ApiKey:
        return read(await self._row(await self._any_owner_id(tenant_name), key_id), ApiKey)

    async def owner_of(self, key_id: str) -> str | None:
        """The name of the tenant whose key this is, None for operators. Raises NotFound.

        Looks through all tenants, a hundred at a time: for people, and for no door.
        """
        if not is_id(key_id):
            raise NotFound("key", key_id)
        if await self.journal.table.get(key_at(OPERATOR, key_id)) is not None:
            return None
        after = None
        while True:
            page = await self.journal.table.list("tenants", after=after, limit=MOST_KEYS)
            places = {key_at(read(row, TenantPointer).tenant_id, key_id): row.key.sort for row in page.rows}
            for place in await self.journal.many(places):
                return places[place]
            after = page.next_after
            if after is None:
                raise NotFound("key", key_id)

    async def list(
        self, tenant_name: str | None, after: str | None = None, limit: int = MOST_KEYS
    ) -> Page[ApiKey]:
        """In whatever state, by their ids; `after` is the cursor of the page before."""
        owner_id = await self._any_owner_id(tenant_name)
        page = await self.journal.table.list(f"tenant/{owner_id}", "key/", after, limit)
        return Page(tuple(read(row, ApiKey) for row in page.rows), page.next_after)

    async def meant_to_end_us(self, key: ApiKey) -> int | None:
        """A key that was rotated ends sooner than it was meant to; the last of its successors does not."""
        while key.successor_id is not None:
            key = read(await self._row(key.tenant_id, key.successor_id), ApiKey)
        return key.expires_us

    # What a gateway asks

    async def find(self, digest: str) -> Credentials | None:
        """What the directory knows of the key with this digest (`keys.digest`)."""
        return (await self.reread([digest]))[digest]

    async def reread(self, digests: Sequence[str]) -> dict[str, Credentials | None]:
        """`find` for many at once. Fails closed: what is absent, dangling or unreadable is None, a tenant's privacy too: it is not
        served rather than unmasked. So is an operator's key.
        """
        many = self.journal.many
        pointers = readable(await many(map(digest_at, digests)), KeyPointer)
        at = pointers.values()
        known = readable(await many(key_at(p.tenant_id, p.key_id) for p in at), ApiKey)
        owners = readable(await many(tenant_at(p.tenant_id) for p in at), Tenant)
        plans = readable(await many(plan_at(owner.plan) for owner in owners.values()), Plan)
        named = (privacy_at(owner.privacy) for owner in owners.values() if owner.privacy is not None)
        privacies = readable(await many(named), Privacy)
        of_accounts = [account_at(it.tenant_id, it.account_id) for it in known.values() if it.account_id]
        accounts = readable(await many(of_accounts), Account)

        def credentials(pointer: KeyPointer | None) -> Credentials | None:
            key = pointer and known.get(key_at(pointer.tenant_id, pointer.key_id))
            owner = pointer and owners.get(tenant_at(pointer.tenant_id))
            plan = owner and plans.get(plan_at(owner.plan))
            if not (key and owner and plan):
                return None
            private = privacies.get(privacy_at(owner.privacy)) if owner.privacy is not None else None
            if private is None and owner.privacy is not None:
                return None
            account = accounts.get(account_at(owner.id, key.account_id)) if key.account_id else None
            if key.account_id and not account:
                return None
            return Credentials(key, owner, plan, account, private)

        return {digest: credentials(pointers.get(digest_at(digest))) for digest in digests}

    async def identify(self, digest: str, now_us: int) -> Identity | None:
        """Whose working key this is, an operator's or a tenant's that is not closed. Fails closed, as `find`."""
        pointer = readable(await self.journal.many([digest_at(digest)]), KeyPointer).get(digest_at(digest))
        if pointer is None:
            return None
        if pointer.tenant_id == OPERATOR:
            at = key_at(OPERATOR, pointer.key_id)
            key = readable(await self.journal.many([at]), ApiKey).get(at)
            return Identity(key, None, None) if key and keys.state(key, now_us) in WORKING else None
        found = await self.find(digest)
        if found is None or keys.state(found.key, now_us) not in WORKING:
            return None
        if tenant.state(found.tenant, now_us) == "closed":
            return None
        return Identity(found.key, found.tenant, found.account)

    # How it is done

    def _mint(self, wanted: ApiKey) -> tuple[Minted, Change]:
        """The key that is wanted, with an id and a text of its own, and its creation."""
        secret = keys.mint(self.journal.entropy(keys.RANDOM_BYTES))
        key = replace(wanted, id=self.journal.new_id("k"), hint=keys.hint(secret))
        pointer = new_row(digest_at(keys.hashed(secret)), KeyPointer(key.tenant_id, key.id))
        owner = self._event_owner(key.tenant_id)
        at = key_at(key.tenant_id, key.id)
        change = Change(Action.KEY_CREATED, key.id, at, None, encoded(key), owner, (pointer,))
        return Minted(key, secret), change

    async def _owner_id(self, tenant_name: str | None, now_us: int) -> str:
        """Whose a new key would be: an active tenant's, or the operators'."""
        if tenant_name is None:
            return OPERATOR
        owner = await self.tenants.show(tenant_name)
        check_open(owner, now_us)
        if owner.state != "active":
            raise Invalid("tenant", f"is {owner.state}")
        return owner.id

    async def _any_owner_id(self, tenant_name: str | None) -> str:
        return OPERATOR if tenant_name is None else (await self.tenants.show(tenant_name)).id

    def _event_owner(self, owner_id: str) -> str | None:
        return None if owner_id == OPERATOR else owner_id

    async def _row(self, owner_id: str, key_id: str) -> Row:
        row = await self.journal.table.get(key_at(owner_id, key_id)) if is_id(key_id) else None
        if row is None:
            raise NotFound("key", key_id)
        return row

    async def _check_account(self, owner_id: str, account_id: str) -> None:
        row = await self.journal.table.get(account_at(owner_id, account_id)) if is_id(account_id) else None
        if row is None:
            raise NotFound("account", account_id)

    async def _check_models(self, tenant_name: str, wanted: tuple[str, ...]) -> None:
        """A key names models that its tenant has: a typing error shows now and not at the first call."""
        if not 1 <= len(wanted) <= MOST_MODELS:
            raise Invalid("models", f"must name 1 to {MOST_MODELS}")
        for position, name in enumerate(wanted):
            names.MODEL.check(name, f"models[{position}]")
        found = readable(await self.journal.many(map(model_at, wanted)), Model)
        for name in wanted:
            known = found.get(model_at(name))
            if known is None or not known.serves(tenant_name):
                raise NotFound("model", name)
