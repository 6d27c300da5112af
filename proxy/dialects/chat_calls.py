"""The tool calls of a streamed Chat answer: to which of them each piece belongs, and what it adds.

Providers send a name once, in pieces, or again with every piece; arguments in pieces, whole, or
each time all there are so far. docs/dialects.md, "Tool calls in streams"
"""

from proxy.dialects.chat_reading import CallPiece
from proxy.dialects.messages_json import parsed_object

# Nothing real repeats itself more often; it bounds what is held back.
_MOST_DOUBTFUL = 8


class StreamedCall:
    """Puts a call's pieces together and says what of its arguments can be passed on."""

    __slots__ = ("_doubtful", "_pieces", "_size", "id", "name")

    def __init__(self, id: str) -> None:
        self.id = id
        self.name = ""
        self._pieces: list[str] = []
        self._size = 0
        # Pieces that each begin with all there was before: either arguments that are sent anew
        # with every piece, or ones that repeat themselves, as {"a":{"a":… does.
        self._doubtful: list[str] = []

    @property
    def ready(self) -> bool:
        """Whether the name is known to be whole: arguments come after it."""
        return self._size > 0 and self.name != ""

    @property
    def complete(self) -> bool:
        """Whether the arguments are whole beyond doubt, so that no piece can come any more."""
        added_up = self.settled + "".join(self._doubtful)
        if parsed_object(added_up) is not None:
            return True
        return bool(self._doubtful) and parsed_object(self.settled) is not None  # sent once more

    @property
    def settled(self) -> str:
        """The arguments so far, without what is doubtful."""
        return "".join(self._pieces)

    @property
    def arguments(self) -> str:
        """All arguments so far. Of both readings of doubtful pieces, never more than one is an object."""
        if not self._doubtful:
            return self.settled
        added_up = self.settled + "".join(self._doubtful)
        return added_up if parsed_object(added_up) is not None else self._doubtful[-1]

    def ends_before(self, piece: CallPiece) -> bool:
        """Whether this piece, which seems to be of this call, has a name because it begins another.

        Some providers give all calls one index, or one id; others repeat the name in every piece.
        """
        if not piece.name or not self.ready:
            return False
        if piece.name != self.name:
            return parsed_object(self.arguments) is not None
        if not piece.arguments:  # without index and id, only a beginning has a name
            return piece.index is None and not piece.id and self.complete
        return self.complete and not piece.arguments.startswith(self.arguments)

    def add_name(self, piece: str) -> None:
        if not self.ready:
            self.name = piece if piece.startswith(self.name) else self.name + piece

    def add(self, piece: str) -> str:
        """Take a piece of the arguments and return what can be passed on now."""
        if self._doubtful:
            if piece.startswith(self._doubtful[-1]):
                self._doubtful.append(piece)
                return self.rest() if len(self._doubtful) == _MOST_DOUBTFUL else ""
            piece = "".join(self._doubtful) + piece
            self._doubtful.clear()
        elif 0 < self._size <= len(piece) and piece.startswith(self.settled):
            self._doubtful.append(piece)
            return ""
        self._pieces.append(piece)
        self._size += len(piece)
        return piece

    def rest(self) -> str:
        """Return what `add` held back: nothing more comes, or the doubt is great enough."""
        rest = self.arguments[self._size :]
        self._doubtful.clear()
        self._pieces.append(rest)
        self._size += len(rest)
        return rest


class StreamedCalls:
    """Finds a piece's call by its index, else by its id; else it is the last.

    A name after whole arguments begins another, however the call was found.
    """

    __slots__ = ("_by_id", "_by_index", "all")

    def __init__(self) -> None:
        self.all: list[StreamedCall] = []
        self._by_index: dict[int, StreamedCall] = {}
        self._by_id: dict[str, StreamedCall] = {}

    def add(self, piece: CallPiece) -> tuple[StreamedCall, str]:
        """Give a piece to its call; return the call, and what of the arguments can be passed on now."""
        call = self._known(piece)
        if call is None or call.ends_before(piece):
            call = self._new(piece)
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
        return self.all[-1] if self.all else None

    def _new(self, piece: CallPiece) -> StreamedCall:
        call = StreamedCall(piece.id)
        self.all.append(call)
        if piece.index is not None:
            self._by_index[piece.index] = call
        if piece.id:
            self._by_id[piece.id] = call
        return call
