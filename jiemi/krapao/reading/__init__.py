"""Files that are not encrypted, and what sops gave of those that are: read in confined processes."""
