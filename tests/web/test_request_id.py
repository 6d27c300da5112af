"""The ids of requests: unique, in the order of their time, whoever makes them."""

import re

from proxy.web.request_id import RequestIds, new_request_id


def test_ids_are_unique_beyond_what_is_read_at_once() -> None:
    ids = RequestIds()
    made = [ids.new() for _ in range(1000)]
    made.append(new_request_id())
    assert len(set(made)) == len(made)
    assert all(re.fullmatch(r"req_[0-9a-f]{32}", id) for id in made)
    times = [id[4:16] for id in made]
    assert times == sorted(times)
