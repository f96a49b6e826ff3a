"""The command line: `main` is its entry point, and each command is a module of its name."""
