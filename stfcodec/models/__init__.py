"""The networks: architectures, their float and integer forms, and their weights files."""
