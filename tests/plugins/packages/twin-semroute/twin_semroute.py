"""A plugin whose name another package claims as well."""


class Twin:
    """Never made."""
