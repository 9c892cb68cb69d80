"""Child processes that can do little: seccomp, Landlock, namespaces of their own, folders in memory."""
