"""Fixtures that every room's tests may use. `tests/` is on sys.path: `from fakes.kubernetes import …`."""

pytest_plugins = ["api_server", "controlplane_fixtures", "deploy_manifests", "e2e_lab"]
