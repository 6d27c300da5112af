"""Helpers that several folders of the suite share."""
