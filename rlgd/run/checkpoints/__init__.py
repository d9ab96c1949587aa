"""Checkpoints: folders that are complete or do not exist, with a manifest that detects damage."""
