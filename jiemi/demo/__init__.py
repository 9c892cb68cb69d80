"""What the demo needs beside the product: a smart-HTTP git server on loopback and an encrypted example."""
