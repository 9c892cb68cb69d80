"""The real form of the Kubernetes port keeps the contract on a real API server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from contract.kubernetes_accounts_contract import KubernetesAccountsContract
from contract.kubernetes_contract import KubernetesContract
from contract.kubernetes_metadata_contract import KubernetesMetadataContract
from contract.kubernetes_objects_contract import KubernetesObjectsContract
from contract.kubernetes_world import RealWorld, open_world

pytestmark = pytest.mark.e2e


@pytest.fixture
async def world(control_plane: Path, tmp_path: Path) -> AsyncIterator[RealWorld]:
    async with open_world(control_plane, tmp_path) as world:
        yield world


class TestRealKubernetes(KubernetesContract):
    pass


class TestRealAccounts(KubernetesAccountsContract):
    pass


class TestRealMetadata(KubernetesMetadataContract):
    pass


class TestRealObjects(KubernetesObjectsContract):
    pass
