"""An installation is two files; moved elsewhere after a clean stop, everything works."""

import shutil
from pathlib import Path

from tests.support.clients import MESSAGES
from tests.support.gateway import API_KEY, gateway

BODY = {"model": "demo/any", "messages": MESSAGES}


async def test_every_key_works_in_another_place(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    settings = {"providers": {"demo": {"preset": "echo"}}}
    async with gateway(here, **settings) as sluice:
        made = (await sluice.admin.post("/admin/api/keys", json={"name": "alice"})).json()["key"]
        assert (await sluice.http.post("/v1/chat/completions", json=BODY)).status_code == 200
    assert sorted(path.name for path in here.iterdir()) == ["config.yaml", "sluice.db"]
    shutil.move(here / "sluice.db", there / "sluice.db")
    async with gateway(there, **settings) as sluice:
        for key in (API_KEY, made):
            sluice.http.headers["authorization"] = f"Bearer {key}"
            assert (await sluice.http.post("/v1/chat/completions", json=BODY)).status_code == 200
        assert (await sluice.http.get("/v1/usage")).json()["requests"] == 3
