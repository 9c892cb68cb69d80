"""What a service shows of itself by HTTP: its metrics, whether it lives, and whether it is ready."""
