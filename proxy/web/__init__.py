"""HTTP towards clients: routes, handlers, errors, streaming, console."""
