"""Miwen, the controller: watches Decryptors, asks Krapao, applies, writes status."""
