"""Guessing keys is slowed down, without ever locking out who has the right one."""

from collections import OrderedDict, deque

from proxy.core.errors import RateLimited

WINDOW_MS = 60_000
WRONG_KEYS_PER_WINDOW = 30
# Peers remembered at once, the latest ones: some 7 MiB at worst. Who commands more addresses than
# this gains 30 guesses each, against 256 random bits.
MAX_PEERS = 4096


class WrongKeys:
    """Counts the wrong keys of each peer over the last minute. docs/limits.md, "Wrong keys" """

    def __init__(self) -> None:
        self._peers: OrderedDict[str, deque[int]] = OrderedDict()

    def count(self, peer: str, now_ms: int) -> None:
        """Count one wrong key; raise RateLimited when the peer has had its 30 of this minute."""
        times = self._peers.get(peer)
        if times is None:
            times = self._peers[peer] = deque()
            if len(self._peers) > MAX_PEERS:
                self._peers.popitem(last=False)
        else:
            self._peers.move_to_end(peer)
        # A clock that went back must not keep old entries alive.
        while times and not now_ms - WINDOW_MS < times[0] <= now_ms:
            times.popleft()
        if len(times) >= WRONG_KEYS_PER_WINDOW:
            raise RateLimited(
                "too_many_invalid_keys",
                f"{WRONG_KEYS_PER_WINDOW} wrong keys came from {peer} within a minute. "
                "Check the key; a right one is accepted at once.",
                retry_after_s=(times[0] + WINDOW_MS - now_ms) / 1000,
                should_retry=False,
            )
        times.append(now_ms)
