"""Price lists that an administrator brings: checked whole, kept, and in force at once."""

import logging
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from proxy.config.catalogue import IMPORTED, NOTHING_IMPORTED, Catalogue, PriceList, Text
from proxy.config.problems import Wrong, dotted
from proxy.core.errors import BadRequest
from proxy.core.moments import rfc3339
from proxy.gateway.clock import Clock
from proxy.gateway.gateway import Gateway
from proxy.store.prices import PriceImport, PriceStore

logger = logging.getLogger("sluice.prices")


class NewPrices(Struct, forbid_unknown_fields=True, frozen=True):
    """What an import brings; `file` is the name under which people know it."""

    file: Text
    lists: Annotated[tuple[PriceList, ...], Meta(min_length=1, max_length=200)]


class PriceImports:
    """The imported lists: in the database first, in force after the commit."""

    def __init__(self, store: PriceStore, clock: Clock, gateway: Gateway, stored: PriceImport | None) -> None:
        self._store = store
        self._clock = clock
        self._gateway = gateway
        self._stored = stored

    def shown(self) -> dict[str, Any]:
        """Return what is in force: the file, when it was imported, how many models it has."""
        stored = self._stored
        return {
            "file": stored and stored.file,
            "imported_at": stored and rfc3339(stored.imported_ms),
            "models": len(self._gateway.snapshot.imported),
        }

    async def replace(self, prices: NewPrices) -> None:
        """Put new lists in the place of all that were imported before.

        Raises BadRequest, LedgerUnavailable; then nothing was changed.
        """
        try:
            catalogue = Catalogue(prices.lists, IMPORTED)
        except Wrong as error:
            param = dotted(("lists", *error.path))
            raise BadRequest("invalid_value", f"{param}: {error}.", param=param) from None
        lists = msgspec.json.encode(prices.lists).decode()
        stored = PriceImport(prices.file, self._clock.now_ms(), lists)
        await self._store.replace(stored)
        self._take(stored, catalogue)

    async def clear(self) -> None:
        """Forget the imported lists. Raises LedgerUnavailable."""
        await self._store.clear()
        self._take(None, NOTHING_IMPORTED)

    def _take(self, stored: PriceImport | None, catalogue: Catalogue) -> None:
        self._stored = stored
        self._gateway.snapshot = self._gateway.snapshot.with_imported(catalogue)


def catalogue_of(stored: PriceImport | None) -> Catalogue:
    """Return the lists of an import that was kept; none if this version cannot use them."""
    if stored is None:
        return NOTHING_IMPORTED
    try:
        return Catalogue(msgspec.json.decode(stored.lists, type=tuple[PriceList, ...]), IMPORTED)
    except (Wrong, msgspec.DecodeError) as error:
        logger.warning("the prices imported from %s are left out; import them again: %s", stored.file, error)
        return NOTHING_IMPORTED
