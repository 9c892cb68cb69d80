"""Clones, fetches, and what is in a commit. It knows no Kubernetes and no keys."""
