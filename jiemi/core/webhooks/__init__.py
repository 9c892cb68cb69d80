"""Webhooks of git hosts: who sends what, whether it is genuine, and which repository moved."""
