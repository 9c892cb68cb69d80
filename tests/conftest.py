"""Fixtures that every room's tests may use. `tests/` is on sys.path: `from fakes.kubernetes import …`."""

pytest_plugins = ["controlplane_fixtures", "api_server"]
