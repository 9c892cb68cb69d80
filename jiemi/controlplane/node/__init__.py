"""A whole cluster of one node on this machine, without a container engine: what a Pod needs, beside a control plane."""
