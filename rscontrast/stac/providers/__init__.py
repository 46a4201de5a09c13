"""One module a provider, each with the data of its ``PROVIDER``."""
