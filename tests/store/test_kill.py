"""A process that is killed while it settles: what it had acknowledged is there."""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.records import record_id

Rows = Callable[..., list[tuple[Any, ...]]]

UNEQUAL = """
SELECT day, account, key_id, provider, model, count(*), sum(finish <> 'ok'),
       sum(input_tokens), sum(output_tokens), sum(cached_tokens), sum(cache_write_tokens),
       sum(reasoning_tokens), sum(cost_nanos)
FROM exchanges GROUP BY 1, 2, 3, 4, 5
EXCEPT SELECT * FROM daily_sums
"""


@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
def test_a_kill_loses_no_acknowledged_record(path: Path, rows: Rows, synchronous: str) -> None:
    acknowledged: list[int] = []
    for round_number in range(3):
        command = [
            sys.executable,
            "-m",
            "tests.support.records",
            path,
            str(round_number * 10**6),
            "16",
            synchronous,
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            for _ in range(random.randint(20, 2000)):
                acknowledged.append(int(process.stdout.readline()))
            process.kill()
            # What it could still say before it died, but for a line that was cut off.
            acknowledged.extend(int(line) for line in process.stdout if line.endswith("\n"))
        stored = {id for (id,) in rows("SELECT id FROM exchanges")}
        assert {record_id(number) for number in acknowledged} <= stored
        assert rows("PRAGMA integrity_check") == [("ok",)]
        assert rows(UNEQUAL) == []
        assert rows("SELECT sum(requests) FROM daily_sums") == [(len(stored),)]
