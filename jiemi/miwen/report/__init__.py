"""What Miwen tells: Events, metrics, the summary that `kubectl get` shows."""
