"""One tool call as its pieces come in.

Providers send a name once, in pieces, or again with every piece; arguments in pieces, whole, or
each time all there are so far. docs/dialects.md, "Tool calls in streams"
"""

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
        return parsed_object(self.settled + "".join(self._doubtful)) is not None

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
