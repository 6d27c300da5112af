"""`/prices` of the admin API: the price lists that were imported. docs/prices.md"""

from starlette.requests import Request
from starlette.responses import Response

from proxy.gateway.price_imports import NewPrices, PriceImports
from proxy.web.resources import answer, read_object

# LiteLLM's whole file, reduced to what is used of it, is some 160 KiB.
MAX_BODY_BYTES = 4 << 20


class PricesApi:
    """`/prices`"""

    def __init__(self, imports: PriceImports) -> None:
        self._imports = imports

    async def show(self, request: Request) -> Response:
        return answer(self._imports.shown())

    async def replace(self, request: Request) -> Response:
        await self._imports.replace(await read_object(request, NewPrices, MAX_BODY_BYTES))
        return answer(self._imports.shown())

    async def clear(self, request: Request) -> Response:
        await self._imports.clear()
        return answer(self._imports.shown())
