"""Tool calls of a Chat answer, told apart and put together. docs/dialects.md, "What is read\""""

from collections.abc import Mapping

from proxy.dialects.chat_reading import CallPiece
from proxy.dialects.responses_context import Ids, Tool
from proxy.dialects.responses_items import CallItem


class CallIds:
    """Gives each call of an answer an id of its own: some providers send none, or one for all."""

    __slots__ = ("_ids", "_used")

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._used: set[str] = set()

    def unique(self, id: str) -> str:
        if not id or id in self._used:
            id = self._ids("call")
        self._used.add(id)
        return id


class StreamedCall:
    """What is known of a call that comes in pieces."""

    __slots__ = ("_all", "_cumulative", "_tools", "id", "item", "name", "waiting")

    def __init__(self, id: str, tools: Mapping[str, Tool]) -> None:
        self.id = id
        self.name = ""
        #: Arguments that came while it was not ready.
        self.waiting: list[str] = []
        #: Once it was.
        self.item: CallItem | None = None
        self._tools = tools
        self._all = ""
        self._cumulative: bool | None = None

    @property
    def ready(self) -> bool:
        """Whether the name is known: whole, as far as one can tell."""
        return bool(self.name) and (
            self.name in self._tools or bool(self.waiting) or not self._may_go_on(self.name)
        )

    def take(self, piece: CallPiece, arguments: str) -> None:
        """Take a piece that came before the call was ready, with what is new of its arguments."""
        self.id = self.id or piece.id
        if piece.name and self.name not in self._tools:
            # Some providers repeat the name on every piece, and some send it in pieces.
            joined = self.name + piece.name
            self.name = joined if self._may_go_on(joined) else self.name or piece.name
        if arguments:
            self.waiting.append(arguments)

    def new(self, arguments: str) -> str:
        """Return what is new in a piece of the arguments: some providers repeat all of them each time.

        The second piece tells. It cannot begin like the first one by chance, except in an object
        that holds another one under the same first name, cut off just before it.
        """
        if self._cumulative is None and self._all:
            self._cumulative = self._all.lstrip().startswith("{") and arguments.startswith(self._all)
        if self._cumulative is None:
            self._all = arguments
        elif self._cumulative and arguments.startswith(self._all):
            known, self._all = len(self._all), arguments
            return arguments[known:]
        return arguments

    def _may_go_on(self, name: str) -> bool:
        return any(tool.startswith(name) for tool in self._tools)


class StreamedCalls:
    """Finds the call that a piece belongs to: by its index, else by its id, else it is the last."""

    __slots__ = ("_by_id", "_by_place", "_tools", "all")

    def __init__(self, tools: Mapping[str, Tool]) -> None:
        self.all: list[StreamedCall] = []
        self._tools = tools
        self._by_place: dict[int, StreamedCall] = {}
        self._by_id: dict[str, StreamedCall] = {}

    def call_of(self, piece: CallPiece) -> StreamedCall:
        call = self._known(piece)
        if call is None:
            call = StreamedCall(piece.id, self._tools)
            self.all.append(call)
            if piece.place is not None:
                self._by_place[piece.place] = call
            if piece.id:
                self._by_id[piece.id] = call
        return call

    def _known(self, piece: CallPiece) -> StreamedCall | None:
        if piece.place is not None:
            call = self._by_place.get(piece.place)
            # Ollama had one index for all: an id and a name come once, at the beginning of a call.
            is_another = call and call.id and piece.name and piece.id not in ("", call.id)
            return None if is_another else call
        if piece.id:
            return self._by_id.get(piece.id)
        return self.all[-1] if self.all and not piece.name else None
