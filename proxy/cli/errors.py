"""How a command ends that does not end well."""


class CommandFailed(Exception):
    """The command ends with `status`: 1 for what failed or was not found, 2 for wrong use."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status
