"""The embedded etcd + kube-apiserver for local work and tests, and the tools that it runs."""
