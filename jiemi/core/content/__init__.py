"""What is in files: documents, globs, the marks that sops leaves, files of tools."""
