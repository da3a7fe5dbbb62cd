"""A design made real: the only package that knows namespaces, processes and switch software."""
