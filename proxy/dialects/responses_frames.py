"""The events of a response as the bytes of an event stream, numbered."""

import msgspec

from proxy.dialects.responses_items import CallItem, Item, Part, TextItem

_encode = msgspec.json.Encoder().encode


class Frames:
    """Writes events; each gets the next `sequence_number`, from 0 on."""

    __slots__ = ("_sequence",)

    def __init__(self) -> None:
        self._sequence = 0

    def event(self, type: str, **members: object) -> bytes:
        data = _encode({"type": type, "sequence_number": self._sequence, **members})
        self._sequence += 1
        return b"event: %b\ndata: %b\n\n" % (type.encode(), data)

    def delta(self, head: bytes, text: str) -> bytes:
        """Write one piece of a text; `head` is the constant part of such events."""
        frame = b'%b%d,"delta":%b}\n\n' % (head, self._sequence, _encode(text))
        self._sequence += 1
        return frame

    def begin(self, item: Item) -> bytes:
        """Write that an item begins, which has nothing in it yet."""
        if isinstance(item, CallItem):
            item.delta_head = _delta_head(f"{item.event}.delta", item_id=item.id, output_index=item.index)
        return self.event("response.output_item.added", output_index=item.index, item=item.as_json())

    def begin_part(self, item: TextItem, part: Part) -> bytes:
        """Write that the next part of an item begins, and make it the item's last."""
        place = {
            "item_id": item.id,
            "output_index": item.index,
            part.kind.index: len(item.parts),
        }
        item.parts.append(part)
        part.delta_head = _delta_head(f"{part.kind.text_event}.delta", **place, **part.kind.event_members)
        return self.event(f"{part.kind.part_event}.added", **place, part=part.as_json())

    def end_part(self, item: TextItem) -> bytes:
        """Write that the last part of an item is complete."""
        part = item.parts[-1]
        kind, whole = part.kind, part.as_json()
        place = {"item_id": item.id, "output_index": item.index, kind.index: len(item.parts) - 1}
        text = {kind.member: whole[kind.member]}
        done = self.event(f"{kind.text_event}.done", **place, **text, **kind.event_members)
        return done + self.event(f"{kind.part_event}.done", **place, part=whole)

    def end(self, item: Item, status: str) -> bytes:
        """Write that an item is complete, or that it will not be."""
        out = self._end_call(item) if isinstance(item, CallItem) else self.end_part(item)
        item.status = status
        return out + self.event("response.output_item.done", output_index=item.index, item=item.as_json())

    def _end_call(self, item: CallItem) -> bytes:
        rest = item.finish()
        out = self.delta(item.delta_head, rest) if rest else b""
        members = {item.member: item.input}
        if not item.tool.custom:
            members["name"] = item.tool.name
        return out + self.event(f"{item.event}.done", item_id=item.id, output_index=item.index, **members)


def _delta_head(type: str, **members: object) -> bytes:
    """Return the beginning of delta events, up to their number."""
    data = _encode({"type": type, **members})
    return b'event: %b\ndata: %b,"sequence_number":' % (type.encode(), data[:-1])
