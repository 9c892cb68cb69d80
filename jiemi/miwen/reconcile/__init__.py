"""One tick: what there is to do for a Decryptor, in which order, and how it is done."""
