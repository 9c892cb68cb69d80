"""Webhooks: a port that git hosts send to, so that a push is looked at when it happens."""
