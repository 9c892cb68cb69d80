"""What Miwen reports: Events, metrics, the summary that `kubectl get` shows."""
