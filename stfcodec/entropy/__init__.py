"""Entropy coding: integer CDF tables and the rANS coder that uses them. Importable without
torch."""
