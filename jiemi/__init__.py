"""Jiemi keeps SOPS-encrypted files in git applied, decrypted, to a Kubernetes cluster.

The rooms, top to bottom (an arrow only ever points down; `just lint` checks it):

- `jiemi.cli`: the commands; the only place that reads flags and environment variables.
- `jiemi.demo`, `jiemi.controlplane`: a git server and a Kubernetes API on loopback, for local work.
- `jiemi.miwen` and `jiemi.krapao`: the controller and the repository service; neither knows the other.
- `jiemi.rpc`: the contract between them, over Cap'n Proto.
- `jiemi.concurrency`: blocking calls on threads, made cancellable.
- `jiemi.core`: pure decisions; no I/O, no clock.
"""

__version__ = "0.1.0"
