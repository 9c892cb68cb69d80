"""What runs the Decryptors: the watch, one task per Decryptor, the loop of each."""
