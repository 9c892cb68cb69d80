"""Kubernetes objects as values: who they are, what is in manifests, who owns which field, what differs."""
