"""The admin key and the secret of a start."""

from pathlib import Path

import pytest

from proxy.core.errors import BadRequest
from proxy.core.secret import Secret
from proxy.gateway.adminkey import DIGEST_SETTING, PREFIX, AdminKey
from tests.support.keys import installed, settings_of


async def test_a_generated_key_is_known_again_at_the_next_start_by_its_digest_alone(tmp_path: Path) -> None:
    config = settings_of(tmp_path)
    async with installed(config) as first:
        assert not first.admin.exists
        key = await first.admin.reset()
        assert key.reveal().startswith(PREFIX)
        assert len(key.reveal()) >= len(PREFIX) + 43  # 256 bits in base64
    async with installed(config) as second:
        assert second.admin.exists
        assert second.admin.accepts(key.reveal().encode())
        assert second.admin.is_admin_key(key.reveal().encode())
        assert await second.settings.get(DIGEST_SETTING) == key.digest().hex()
    assert key.reveal().encode() not in config.database.read_bytes()


async def test_a_reset_ends_the_old_key_at_once(tmp_path: Path) -> None:
    async with installed(settings_of(tmp_path)) as here:
        old, new = await here.admin.reset(), await here.admin.reset()
        assert old != new
        assert here.admin.accepts(new.reveal().encode())
        assert here.admin.actor(new.reveal().encode()) == "admin"
        assert not here.admin.accepts(old.reveal().encode())


async def test_the_run_secret_is_accepted_but_is_no_admin_key(tmp_path: Path) -> None:
    config = settings_of(tmp_path)
    async with installed(config) as here:
        run_secret = here.admin.run_secret.encode()
        assert here.admin.accepts(run_secret)
        assert not here.admin.is_admin_key(run_secret)
        assert here.admin.actor(run_secret) == "local"
        assert not here.admin.exists
    async with installed(config) as next_start:
        assert not next_start.admin.accepts(run_secret)


@pytest.mark.parametrize("presented", [b"", b"sk-admin-", b"sk-admin-wrong", b"\xff\x00"])
async def test_nothing_else_is_accepted(tmp_path: Path, presented: bytes) -> None:
    async with installed(settings_of(tmp_path)) as here:
        assert not here.admin.accepts(presented)
        await here.admin.reset()
        assert not here.admin.accepts(presented)


async def test_a_configured_key_holds_instead_of_the_generated_one(tmp_path: Path) -> None:
    async with installed(settings_of(tmp_path)) as here:
        generated = await here.admin.reset()
    async with installed(settings_of(tmp_path, admin_key="sk-admin-from-the-file")) as here:
        assert here.admin.accepts(b"sk-admin-from-the-file")
        assert not here.admin.accepts(generated.reveal().encode())
        with pytest.raises(BadRequest, match="configuration"):
            await here.admin.reset()


async def test_a_reload_may_bring_take_and_change_the_configured_key(tmp_path: Path) -> None:
    async with installed(settings_of(tmp_path)) as here:
        admin: AdminKey = here.admin
        generated = (await admin.reset()).reveal().encode()
        admin.configure(Secret("sk-admin-one"))
        assert admin.accepts(b"sk-admin-one")
        assert not admin.accepts(generated)
        admin.configure(Secret("sk-admin-two"))
        assert not admin.accepts(b"sk-admin-one")
        admin.configure(None)
        assert admin.accepts(generated)
