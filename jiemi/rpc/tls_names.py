"""What the parts of an identity are called, and the two ends (`jiemi.rpc.tls`)."""

from __future__ import annotations

CERTIFICATE, KEY, AUTHORITIES = PARTS = ("tls.crt", "tls.key", "ca.crt")
"""The files of a folder, and the keys of a Secret."""

KRAPAO_NAME = "krapao"
MIWEN_NAME = "miwen"
"""The DNS name that the certificate of each end has, unless flags say otherwise."""
