"""The ids of requests."""

import os
import time


def new_request_id() -> str:
    """Return a new id: `req_`, the time in milliseconds, and 80 random bits, all hexadecimal.

    Ids sort by time, which keeps the rows they key together; nobody can guess another's.
    """
    return f"req_{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"
