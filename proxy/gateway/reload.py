"""Another configuration while requests run: read, checked and built whole, then in force at once.

Running requests keep the snapshot they began with. What fails changes nothing. docs/operations.md, "Reload"
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple
from zoneinfo import ZoneInfo

from proxy.config.difference import Difference, differences
from proxy.config.load import ConfigFile
from proxy.config.problems import MOST_PRINTED, ConfigError
from proxy.config.running import as_running
from proxy.config.schema import Config
from proxy.core.errors import SluiceError
from proxy.gateway.adminkey import AdminKey
from proxy.gateway.gateway import Gateway
from proxy.gateway.impact import Holder, impact
from proxy.gateway.installation import check_currency, install_key
from proxy.gateway.keyring import Keyring, PlansInUse
from proxy.gateway.snapshot import Snapshot
from proxy.store.database import Database
from proxy.store.settings import SettingStore

logger = logging.getLogger("sluice.config")

#: How often the files are looked at.
LOOK_S = 1.0
# A file that is just being written is read when it has been left alone for so long, or after so many
# looks at the latest.
SETTLE_S = 0.1
MOST_SETTLING = 20

# So many reloads are remembered: those of an hour of editing.
REMEMBERED = 10

FULL, NORMAL = "FULL", "NORMAL"


class Outcome(NamedTuple):
    """What a reload changed. `waiting`: keys that need a restart; all others are in force.

    `error` says why one changed nothing: for administrators, since it may quote values of the file.
    """

    at_ms: int
    changes: tuple[Difference, ...] = ()
    impact: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    error: str | None = None


class Reloader:
    """Reads the configuration again: when its files change, when told to, and when asked."""

    def __init__(
        self,
        file: ConfigFile,
        gateway: Gateway,
        keyring: Keyring,
        admin: AdminKey,
        settings: SettingStore,
        database: Database,
    ) -> None:
        self._file = file
        self._gateway = gateway
        self._keyring = keyring
        self._admin = admin
        self._settings = settings
        self._database = database
        self._clock = gateway.services.clock
        #: When the configuration in force was read, and it was right.
        self.loaded_ms = self._clock.now_ms()
        #: What is wrong with the file as it now is, for everybody to read; None: it is in force.
        self.error: str | None = None
        self._reported: str | None = None
        self._outcomes: deque[Outcome] = deque(maxlen=REMEMBERED)
        self._followers: list[Callable[[Config], None]] = []
        #: The file was right, but the database could not be written.
        self._pending = False
        self._reloading = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    def follow(self, apply: Callable[[Config], None]) -> None:
        """Tell `apply` each configuration as it comes into force; it must not fail."""
        self._followers.append(apply)

    def outcomes(self) -> Sequence[Outcome]:
        """Return the last reloads, newest first; an error that came again stands there once."""
        return tuple(self._outcomes)

    def watch(self, look_s: float = LOOK_S) -> None:
        """Look after the files from now on."""
        self._watching = asyncio.create_task(self._watch(look_s))

    def request(self) -> None:
        """Have the watch read the configuration now, as a signal wants it."""
        self._wanted.set()

    async def close(self) -> None:
        """End the watch; wait for a reload that is going on."""
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        async with self._reloading:
            pass

    async def reload(self) -> Outcome:
        """Read the configuration and put it into force.

        A caller that is cancelled stops nothing.

        Raises:
            ConfigError: It is wrong; the one before stays in force.
            LedgerUnavailable: The database cannot be written, and has to be for this one.
        """
        return await asyncio.shield(self._reload())

    async def _reload(self) -> Outcome:
        async with self._reloading:
            try:
                outcome = await self._replace()
            except (ConfigError, SluiceError) as error:
                self._report(error)
                raise
            self.error = self._reported = None
            self._pending = False
            self._outcomes.appendleft(outcome)
            _log(outcome)
            return outcome

    async def _replace(self) -> Outcome:
        before = self._gateway.snapshot
        config, waiting = await asyncio.to_thread(self._read, before.config)
        changes = differences(before.config, config)
        noticed: list[str] = []
        if config != before.config:
            after = await asyncio.to_thread(Snapshot.build, config, before.imported)
            await self._put_in_force(after)
            noticed = await asyncio.to_thread(
                impact, before, after, self._plans_in_use(), self._keys_in_use()
            )
        self.loaded_ms = self._clock.now_ms()
        return Outcome(self.loaded_ms, changes, tuple(noticed), waiting)

    def _read(self, running: Config) -> tuple[Config, tuple[str, ...]]:
        """Return the configuration of the file, as far as it can be in force now. In a thread."""
        config = self._file.read()
        check_currency(running.billing.currency, config)
        return as_running(config, running)

    async def _put_in_force(self, after: Snapshot) -> None:
        """Do what may fail first, then replace everything.

        Commits are as durable as both configurations demand while one takes the other's place.
        """
        was, becomes = synchronous(self._gateway.config()), synchronous(after.config)
        stricter, laxer = (was, becomes) == (NORMAL, FULL), (was, becomes) == (FULL, NORMAL)
        if stricter:
            await self._database.set_synchronous(FULL)
        try:
            await self._swap(after)
        except Exception:
            laxer = stricter
            raise
        finally:
            if laxer:
                with suppress(SluiceError):  # FULL is only slower
                    await self._database.set_synchronous(NORMAL)
        if not self._admin.exists:
            logger.warning(
                "there is no admin key any more; `python -m proxy reset-admin-key` on this machine makes one"
            )

    async def _swap(self, after: Snapshot) -> None:
        before, config = self._gateway.config(), after.config
        async with self._keyring.applying(config):
            if config.api_key is not None and config.api_key != before.api_key:
                await install_key(self._keyring, self._settings, config.api_key, self._clock.now_ms())
            # From here to the end of the block nothing waits, and nothing fails.
            imported = self._gateway.snapshot.imported  # perhaps other lists by now
            self._gateway.snapshot = after if after.imported is imported else after.with_imported(imported)
            self._admin.configure(config.admin_key)
            if config.limits.timezone != before.limits.timezone:
                self._clock.move_to(ZoneInfo(config.limits.timezone))
            origins = (provider.origins for provider in after.providers.values())
            self._gateway.services.client.keep_only(frozenset().union(*origins))
            self._forget_moved(before, config)
            for follower in self._followers:
                follower(config)

    def _forget_moved(self, before: Config, config: Config) -> None:
        """Forget what was learnt of a provider that is somewhere else, or speaks another protocol, now."""
        services = self._gateway.services
        for name, provider in config.providers.items():
            known = before.providers.get(name)
            if known is None or known.addresses != provider.addresses:
                services.router.fleet.reset(name, self._clock.monotonic_ns())
                services.passing.quirks.forget(name)
        services.router.room.look()

    def _plans_in_use(self) -> dict[str, str | None]:
        return {account.name: self._keyring.plan_of(account) for account in self._keyring.accounts()}

    def _keys_in_use(self) -> list[Holder]:
        now_ms = self._clock.now_ms()
        states = [state for state in self._keyring.states() if now_ms < state.valid_until_ms]
        return [
            Holder(state.key.name, state.key.id, state.plan, state.key.models, state.key.providers)
            for state in states
        ]

    def _report(self, error: ConfigError | SluiceError) -> None:
        """Log what is wrong, once: the same error comes again with every look at the same file."""
        self.error = error.discreet if isinstance(error, ConfigError) else str(error)
        # Accounts may be moved off a plan, a database may be written again: then the file is right.
        self._pending = not isinstance(error, ConfigError) or isinstance(error, PlansInUse)
        if self._reported != str(error):
            self._reported = str(error)
            self._outcomes.appendleft(Outcome(self._clock.now_ms(), error=str(error)))
            logger.error("%s was not reloaded; the configuration before stays in force:", self._file.path)
            for line in str(error).splitlines():
                logger.error("%s", line)

    async def _watch(self, look_s: float) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), look_s)
            try:
                await self._look()
            except (ConfigError, SluiceError):
                pass  # it is reported
            except Exception:
                logger.exception("the configuration could not be reloaded")

    async def _look(self) -> None:
        if self._wanted.is_set():
            self._wanted.clear()
            await self.reload()
        elif await asyncio.to_thread(self._file.changed):
            await self._settled()
            await self.reload()
        elif self._pending:
            await self.reload()

    async def _settled(self) -> None:
        """Wait until the files are left alone."""
        before = await asyncio.to_thread(self._file.look)
        for _ in range(MOST_SETTLING):
            await asyncio.sleep(SETTLE_S)
            now = await asyncio.to_thread(self._file.look)
            if now == before:
                return
            before = now


def synchronous(config: Config) -> str:
    """Return how durable SQLite's commits have to be: money must survive a power loss."""
    return FULL if config.billing.mode == "prepaid" else NORMAL


def _log(outcome: Outcome) -> None:
    if not outcome.changes:
        logger.info("the configuration was reloaded; nothing changed")
    else:
        logger.info("the configuration was reloaded: %d changes", len(outcome.changes))
    for change in outcome.changes[:MOST_PRINTED]:
        logger.info("changed: %s", change)
    if len(outcome.changes) > MOST_PRINTED:
        logger.info("changed: … and %d more", len(outcome.changes) - MOST_PRINTED)
    for line in outcome.impact:
        logger.info("effect: %s", line)
    if outcome.waiting:
        logger.warning("needs a restart, and is as it was until then: %s", ", ".join(outcome.waiting))
