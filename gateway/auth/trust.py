"""What this process knows of tokens and client certificates: those that it has verified, and the issuers and tenants that others are
verified with. Nothing here asks for anything.

How old it may be is as with keys (`Known`, which owns this): a change that the feed sees drops what it concerns, and nothing serves beyond
`Known.serves_until`. A token costs a signature once; each tenant has a bounded part of those that are remembered, so one that lets its
issuer sign a token for every call drives out its own and nobody else's.
"""

from collections import OrderedDict
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Final, TypeVar

from gateway.auth.key_sets import Source
from gateway.auth.principal import Principal
from tenants.directory.issuers import Belonging, Trusted
from tenants.ids import is_id
from tenants.issuers import id_of

MOST_TOKENS: Final = 10_000
MOST_OF_ONE: Final = 1_000
_MOST_ISSUERS: Final = 1_000
_MOST_TENANTS: Final = 1_000
_NOTHING: Final[Set[str]] = frozenset()

_Value = TypeVar("_Value")


@dataclass(slots=True)
class Trust:
    """Beyond `most_tokens`, and `most_of_one` of a tenant, the one that was verified longest ago is forgotten. Not shared between loops."""

    most_tokens: int = MOST_TOKENS
    most_of_one: int = MOST_OF_ONE
    dropped: int = 0
    """Tokens and certificates that were forgotten though they were still good, for want of room or because of a change."""
    rekeyings: int = 0
    """Moves with each change of some issuer's keys. What was verified across one may be by a key that is gone, and is not remembered."""
    _tokens: dict[str, Principal] = field(default_factory=dict)
    _of_tenant: dict[str, dict[str, None]] = field(default_factory=dict)
    _issuers: OrderedDict[str, tuple[Trusted, ...]] = field(default_factory=OrderedDict)
    _tenants: OrderedDict[str, Belonging] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._tokens)

    # What requests ask

    def token(self, digest: str) -> Principal | None:
        """Who the token with this digest stands for, if it was verified here."""
        return self._tokens.get(digest)

    def issuers(self, url: str) -> tuple[Trusted, ...] | None:
        """Who trusts the issuer with this URL; None: not known here."""
        return _used(self._issuers, url)

    def tenant(self, name: str) -> Belonging | None:
        """A tenant by its name or its id, with its plan and members; None: not known here."""
        return _used(self._tenants, name)

    # What the directory says

    def learn_token(self, digest: str, principal: Principal) -> None:
        if digest in self._tokens:
            self._take(digest)  # it may have been another tenant's
        self._tokens[digest] = principal
        own = self._of_tenant.setdefault(principal.tenant_id, {})
        own[digest] = None
        if len(own) > self.most_of_one:
            self._drop(next(iter(own)))
        elif len(self._tokens) > self.most_tokens:
            self._drop(next(iter(self._tokens)))

    def learn_issuers(self, url: str, found: tuple[Trusted, ...]) -> None:
        _keep(self._issuers, url, found, _MOST_ISSUERS)

    def learn_tenant(self, name: str, found: Belonging) -> None:
        _keep(self._tenants, name, found, _MOST_TENANTS)

    # What drops it

    def concerned(self, subjects: Mapping[str, Set[str]]) -> None:
        """Forget what a change of these, ids by their kind, concerns: `people` are the tenants some of whose members were changed, an
        `issuer` is the tenant whose issuers were, or one that many share. With a `certificate` whoever was known by one is looked up
        anew, as a name in it may be another's too by now.
        """
        issuers, plans, privacies = (subjects.get(kind, _NOTHING) for kind in ("issuer", "plan", "privacy"))
        tenants = subjects.get("tenant", _NOTHING) | subjects.get("people", _NOTHING)
        if issuers or "documents" in subjects:
            self._issuers.clear()
        for name, it in list(self._tenants.items()):
            if it.tenant.id in tenants or it.plan.name in plans or it.tenant.privacy in privacies:
                del self._tenants[name]
        self._forget([digest for tenant in tenants | issuers for digest in self._of_tenant.get(tenant, ())])
        urls, certificates = self._urls(issuers), "certificate" in subjects
        if plans or privacies or urls or certificates:
            self._forget(
                [
                    digest
                    for digest, it in self._tokens.items()
                    if it.plan.name in plans
                    or (certificates and it.certificate)
                    or (it.privacy and it.privacy.name in privacies)
                    or (it.source and it.source.issuer in urls)
                ]
            )

    def _urls(self, issuers: Set[str]) -> Set[str]:
        """Those of shared issuers whose tokens are here. Each is hashed once: that is what such a change costs."""
        if all(map(is_id, issuers)):  # tenants'
            return _NOTHING
        urls = {it.source.issuer for it in self._tokens.values() if it.source}
        return {url for url in urls if id_of(url) in issuers}

    def rekeyed(self, source: Source) -> None:
        """The keys from there are others: what was verified with those before is verified anew. Another tenant's of the same issuer may
        be from elsewhere.
        """
        self.rekeyings += 1
        self._forget([digest for digest, it in self._tokens.items() if it.source == source])

    def empty(self) -> None:
        self._forget(list(self._tokens))
        self._issuers.clear()
        self._tenants.clear()

    def _forget(self, digests: list[str]) -> None:
        for digest in digests:
            self._drop(digest)

    def _drop(self, digest: str) -> None:
        self._take(digest)
        self.dropped += 1

    def _take(self, digest: str) -> None:
        principal = self._tokens.pop(digest)
        own = self._of_tenant[principal.tenant_id]
        del own[digest]
        if not own:
            del self._of_tenant[principal.tenant_id]


def _used(kept: OrderedDict[str, _Value], name: str) -> _Value | None:
    found = kept.get(name)
    if found is not None:
        kept.move_to_end(name)
    return found


def _keep(kept: OrderedDict[str, _Value], name: str, value: _Value, most: int) -> None:
    kept[name] = value
    kept.move_to_end(name)
    if len(kept) > most:
        kept.popitem(last=False)
