"""Decryption: what reads a hostile file holds no credential, and what holds a credential never reads a file."""
