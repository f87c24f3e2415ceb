"""Closed forms of one step."""
