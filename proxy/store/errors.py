"""What can be wrong with the database: when it is opened, and while it is served from.

StoreError              at the start, for whoever runs the server
├── DatabaseDamaged
├── DatabaseUnwritable
└── SchemaTooNew
LedgerUnavailable       later, for clients: 503 ledger_unavailable
FileReplaced            in the log only
CopyStopped             nobody wants the copy any more
"""

import sqlite3

from proxy.core.errors import Unavailable

#: Primary result codes of SQLite that speak of the file or the system, not of the statement.
#: https://www.sqlite.org/rescode.html
_OF_THE_FILE = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOLFS,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_NOTADB,
    }
)


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


class CopyStopped(Exception):
    """A copy of the database was given up before it was complete."""


def is_of_the_file(error: Exception) -> bool:
    """Return whether the file or the system failed, rather than what was asked of it."""
    if isinstance(error, MemoryError):
        return True
    code = getattr(error, "sqlite_errorcode", None)  # absent where the sqlite3 module itself complains
    return code is not None and code & 0xFF in _OF_THE_FILE


def is_of_damage(error: sqlite3.Error) -> bool:
    """Return whether what is in the file is wrong, rather than how it was opened or asked."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
