"""Who signed a revision: commits and tags of git, verified with public keys that were given."""
