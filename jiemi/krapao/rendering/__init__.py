"""A file of a commit on its way to documents: opened where it is encrypted, split, read."""
