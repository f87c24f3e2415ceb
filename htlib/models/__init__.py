"""Checkpoints of any network, layer by layer."""
