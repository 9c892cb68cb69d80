"""`jiemi run-all`: everything on this machine, from nothing to a Secret that follows a git repository."""
