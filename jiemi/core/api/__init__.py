"""The Decryptor: its fields, how they are read and checked, the CustomResourceDefinition and the tables of the docs."""
