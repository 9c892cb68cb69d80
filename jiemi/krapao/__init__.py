"""Krapao, the repository service: clones, syncs and decrypts. It holds no Kubernetes right at all."""
