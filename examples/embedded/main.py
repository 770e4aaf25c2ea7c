"""A program with work of its own that also serves a connector: a market whose prices Flyte tasks may ask for."""

import asyncio
from collections.abc import Mapping

from connector_core import ConnectorRegistry, InvalidInputError, Phase, Resource, SyncConnectorBase
from connector_core.server import ConnectorServer, serve
from connector_core.settings import load_settings


class Market:
    """The program's own state. Connectors run in other threads, so it hands out what nobody changes any more."""

    def __init__(self) -> None:
        self.prices: Mapping[str, float] = {"tea": 3.0, "coffee": 4.0}

    async def trade(self) -> None:
        """Move the prices for ever."""
        while True:
            await asyncio.sleep(1)
            self.prices = {item: round(price * 1.01, 2) for item, price in self.prices.items()}


class PriceConnector(SyncConnectorBase):
    """Serves `price`: input `item` in, output `price` out."""

    name = "Prices"
    task_type_name = "price"

    def __init__(self, market: Market) -> None:
        self._market = market

    async def do(self, inputs: Mapping[str, object]) -> Resource:
        """Return what the item costs now."""
        prices = self._market.prices
        item = inputs.get("item")
        if not isinstance(item, str) or item not in prices:
            raise InvalidInputError(f"there is no item {item!r}; there are {', '.join(prices)}")
        return Resource(Phase.SUCCEEDED, outputs={"price": prices[item]})


async def main() -> None:
    """Trade and serve until SIGTERM or Ctrl-C."""
    market = Market()
    registry = ConnectorRegistry()
    registry.register(PriceConnector(market))
    server = ConnectorServer(registry, load_settings())
    trading = asyncio.create_task(market.trade())
    await serve(server, on_started=lambda: print(f"prices are served on port {server.port}", flush=True))
    trading.cancel()


if __name__ == "__main__":
    asyncio.run(main())
