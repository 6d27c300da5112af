"""The YAML file: its schema, its presets, and how it is read."""
