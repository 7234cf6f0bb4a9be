"""Every change to who may use what passes here: one transaction writes the change, its conditions and its event, or nothing.

Every method raises TableUnavailable when the table gave no answer and Unreadable for a damaged row, every change also Conflict
when others were faster again and again. Then call again: what a repeated change ends in is said at each.
"""

from collections.abc import Callable

from tenants.directory import formats, stages
from tenants.directory.captures import Captures
from tenants.directory.certificates import Certificates, Mapped
from tenants.directory.data_keys import DataKeys
from tenants.directory.issuers import Belonging, Issuers, Trusted
from tenants.directory.journal import Journal, Page
from tenants.directory.keys import Credentials, Identity, Keys, Minted
from tenants.directory.leaks import Leaks
from tenants.directory.members import Accounts, Members
from tenants.directory.tenants import Found, Tenants
from tenants.directory.uses import KeyRecord, Uses
from tenants.directory.values import Values
from tenants.ports import Table

__all__ = [
    "Belonging",
    "Credentials",
    "Directory",
    "Found",
    "Identity",
    "KeyRecord",
    "Mapped",
    "Minted",
    "Page",
    "Trusted",
]


class Directory:
    """`entropy` gives that many random bytes, fit for secrets. `has_kms`: tenants may have KMS keys of their own. Not shared between
    loops.
    """

    def __init__(self, table: Table, entropy: Callable[[int], bytes], *, has_kms: bool = False) -> None:
        self.journal = Journal(table, entropy)
        self.tenants = Tenants(self.journal, has_kms)
        self.members = Members(self.journal, self.tenants)
        self.accounts = Accounts(self.journal, self.tenants)
        self.keys = Keys(self.journal, self.tenants)
        self.issuers = Issuers(self.journal, self.tenants)
        self.certificates = Certificates(self.journal, self.tenants)
        self.data_keys = DataKeys(self.journal, self.tenants)
        self.captures = Captures(self.journal, self.tenants)
        self.uses = Uses(self.journal)
        self.leaks = Leaks(self.keys, self.uses)
        self.values = Values(self.journal)

    async def repair(self) -> None:
        """Bring the rows to this program's format, finish what a killed process left half done, and drop what it never began."""
        await formats.migrate(self.journal)
        await stages.drop_leftovers(self.journal)
