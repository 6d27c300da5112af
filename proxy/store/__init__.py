"""SQLite: one writing thread, many readers."""
