"""What can be wrong with the database: when it is opened, and while it is served from.

StoreError              at the start, for whoever runs the server
├── DatabaseDamaged
├── DatabaseUnwritable
└── SchemaTooNew
LedgerUnavailable       later, for clients: 503 ledger_unavailable
FileReplaced            in the log only
"""

from proxy.core.errors import Unavailable


class StoreError(Exception):
    """The database cannot be used as it is; the message says why, and what to do."""


class DatabaseDamaged(StoreError):
    """The file is corrupt, or no database of this program. It was not touched."""


class DatabaseUnwritable(StoreError):
    """The file cannot be created, opened or written."""


class SchemaTooNew(StoreError):
    """A newer version of this program made the file. It was not touched."""


class LedgerUnavailable(Unavailable):
    """The database cannot be written, or a report could not be read."""

    def __init__(
        self, message: str = "The database cannot be written; the log of the server says why."
    ) -> None:
        super().__init__("ledger_unavailable", message, retry_after_s=1)


class FileReplaced(Exception):
    """The path of the database no longer leads to the file that was opened."""
