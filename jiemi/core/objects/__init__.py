"""Kubernetes objects as values: which they are, what is in manifests, which manager owns which field, what differs."""
