from proxy.store.database import Database
from proxy.store.settings import SettingStore


async def test_a_setting_is_none_until_it_is_set(database: Database) -> None:
    settings = SettingStore(database)
    assert await settings.get("colour") is None
    await settings.set("colour", "blue")
    assert await settings.get("colour") == "blue"
    await settings.set("colour", "red")
    assert await settings.get("colour") == "red"
    assert await settings.get("taste") is None
