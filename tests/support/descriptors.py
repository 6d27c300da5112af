"""Counting file descriptors."""

import os
import sys

DIRECTORY = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"


def open_descriptors() -> int:
    return len(os.listdir(DIRECTORY))
