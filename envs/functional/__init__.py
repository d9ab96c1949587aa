"""Gymnasium's environments as pure functions of JAX."""
