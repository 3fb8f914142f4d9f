"""A fast simulator of a Lightning network that does what LND does."""
