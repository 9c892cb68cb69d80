"""Fixtures that every room's tests may use. `tests/` is on sys.path: `from fakes.kubernetes import …`."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["api_server", "controlplane_fixtures", "deploy_manifests", "e2e_lab", "real_kubectl", "real_helm"]

# How long an example takes says how busy the machine is. What must be bounded is counted, in the tests themselves.
settings.register_profile("jiemi", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("jiemi")
