"""The command line: `python -m proxy`, or `sluice`."""
