"""The tool calls of a streamed Chat answer: to which of them each piece belongs.

docs/dialects.md, "Tool calls in streams"
"""

from proxy.dialects.chat_reading import CallPiece
from proxy.dialects.messages_calls import StreamedCall


class StreamedCalls:
    """Finds a piece's call by its index, else by its id; else it is the last."""

    __slots__ = ("_by_id", "_by_index", "all")

    def __init__(self) -> None:
        self.all: list[StreamedCall] = []
        self._by_index: dict[int, StreamedCall] = {}
        self._by_id: dict[str, StreamedCall] = {}

    def add(self, piece: CallPiece) -> tuple[StreamedCall, str]:
        """Give a piece to its call; return the call, and what of the arguments can be passed on now."""
        call = self._known(piece) or self._new(piece)
        if piece.name:
            call.add_name(piece.name)
        return call, call.add(piece.arguments) if piece.arguments else ""

    def _known(self, piece: CallPiece) -> StreamedCall | None:
        if piece.index is not None:
            call = self._by_index.get(piece.index)
            # Providers exist that give all calls the index 0: a name under another id is another call.
            is_another = call and call.id and piece.name and piece.id not in ("", call.id)
            return None if is_another else call
        if piece.id:
            return self._by_id.get(piece.id)
        call = self.all[-1] if self.all else None
        return None if call and piece.name and call.complete else call

    def _new(self, piece: CallPiece) -> StreamedCall:
        call = StreamedCall(piece.id)
        self.all.append(call)
        if piece.index is not None:
            self._by_index[piece.index] = call
        if piece.id:
            self._by_id[piece.id] = call
        return call
