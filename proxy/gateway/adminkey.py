"""The admin key: configured, or made at the first start and known by its digest alone."""

import asyncio
import hmac
import secrets

from proxy.core.errors import BadRequest
from proxy.core.secret import Secret, key_digest
from proxy.store.settings import SettingStore

PREFIX = "sk-admin-"
DIGEST_SETTING = "admin_key_digest"
#: Who has the admin key, and a command of the same system user.
ADMIN, LOCAL = "admin", "local"


class AdminKey:
    """Says who may use the admin API: who has the admin key, or the secret of this start.

    The run secret lies in `<database>.run`, readable by the system user alone: through it the same
    user's commands work without the admin key. docs/operations.md
    """

    def __init__(self, settings: SettingStore, configured: Secret | None, stored: bytes | None) -> None:
        self.run_secret = secrets.token_urlsafe(32)
        self._run_digest = key_digest(self.run_secret.encode())
        self._settings = settings
        self._configured = configured.digest() if configured else None
        self._stored = stored

    @classmethod
    async def open(cls, settings: SettingStore, configured: Secret | None) -> "AdminKey":
        stored = await settings.get(DIGEST_SETTING)
        return cls(settings, configured, bytes.fromhex(stored) if stored else None)

    @property
    def exists(self) -> bool:
        """Whether there is an admin key at all; without one, only the run secret is accepted."""
        return (self._configured or self._stored) is not None

    def accepts(self, presented: bytes) -> bool:
        """Return whether this is the admin key or the run secret, in constant time."""
        return self.is_admin_key(presented) or hmac.compare_digest(key_digest(presented), self._run_digest)

    def is_admin_key(self, presented: bytes) -> bool:
        """Return whether this is the admin key itself."""
        expected = self._configured or self._stored
        return expected is not None and hmac.compare_digest(key_digest(presented), expected)

    def actor(self, presented: bytes) -> str:
        """Return who it is that was let in with this, in a word for the ledger."""
        return ADMIN if self.is_admin_key(presented) else LOCAL

    def configure(self, configured: Secret | None) -> None:
        """Take the admin key of a reloaded configuration; without one the generated key holds again."""
        self._configured = configured.digest() if configured else None

    async def reset(self) -> Secret:
        """Make a new admin key; the old one ends at once.

        Raises BadRequest when the key is configured: then the file decides.
        """
        if self._configured is not None:
            raise BadRequest(
                "invalid_value", "admin_key is set in the configuration: change it there, then reload."
            )
        key = Secret(PREFIX + secrets.token_urlsafe(32))
        # A wait that is cancelled undoes no commit, and so must not part memory from it.
        await asyncio.shield(self._store(key.digest()))
        return key

    async def _store(self, digest: bytes) -> None:
        await self._settings.set(DIGEST_SETTING, digest.hex())
        self._stored = digest
