"""Blocking calls on worker threads that a trio cancellation ends at once."""
