"""The Kubernetes API as far as Miwen needs it: a port (`port`) and its real form (`real`)."""
