"""Files for a Vault at a port of loopback at which nobody listens."""

from __future__ import annotations

OF_VAULT = """\
a: ENC[AES256_GCM,data:AAAA,iv:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,tag:AAAAAAAAAAAAAAAAAAAAAA==,type:str]
sops:
    hc_vault:
        - vault_address: http://127.0.0.1:9
          engine_path: transit
          key_name: k
          created_at: "2024-01-01T00:00:00Z"
          enc: vault:v1:AAAA
    lastmodified: "2024-01-01T00:00:00Z"
    mac: ENC[AES256_GCM,data:AAAA,iv:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,tag:AAAAAAAAAAAAAAAAAAAAAA==,type:str]
    version: 3.13.3
"""
