"""What follows from what: the status, when to look again, the policy, the order of dependencies."""
