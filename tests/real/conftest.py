"""The fixtures of tests/krapao, for the same tests against a service of one's own."""

from krapao.conftest import encrypt, settings, sops_path

__all__ = ["encrypt", "settings", "sops_path"]
