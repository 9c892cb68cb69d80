"""What several test modules share, by what it is about; what only one room's tests use stands beside them.

- `krapao`: commits to follow, age and OpenPGP keys, the providers' key services, manifests to read, greedy tenants.
- `miwen`: a world of both fakes on the virtual clock, objects, stored statuses.
- `kubernetes`: the embedded control plane, a plain client of it, `deploy/` applied, the real kubectl and helm, objects.
- `e2e`: everything real together, and the scenes that the end-to-end tests share.
- `network`: servers on loopback. `processes`: threads, memory and logging of processes.
- `canaries`: where the tests look for secrets that must not be there.
"""
