"""What is gathered while a file is read: problems, lines, and secrets that stand in it in clear."""

from proxy.config.nodes import Node, Scalar
from proxy.config.problems import Invalid, Place, Problem, dotted
from proxy.config.references import References, Value


class Reading:
    """One reading of one file."""

    def __init__(self, references: References) -> None:
        self.references = references
        self.problems: list[Problem] = []
        self.lines: dict[Place, int] = {}
        self.secrets_in_clear: list[Place] = []

    def enter(self, path: Place, key_line: int, node: Node) -> None:
        """Note where a value stands: its own line, or that of its key when it has several lines."""
        self.lines[path] = node.line if isinstance(node, Scalar) else key_line

    def line(self, path: Place) -> int:
        """Return the line of a value, or of the nearest one around it that the file holds."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)

    def report(self, path: Place, message: str, line: int | None = None) -> None:
        self.problems.append(Problem(self.line(path) if line is None else line, dotted(path), message))

    def value(self, node: Scalar, path: Place) -> Value:
        """Return a scalar with what it refers to. Raises Invalid."""
        try:
            return self.references.value(node.text)
        except ValueError as error:
            raise Invalid(node.line, path, str(error)) from None
