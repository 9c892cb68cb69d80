"""Webhooks as the forges send them: requests of our own making, after the documents that `hosts` names."""
