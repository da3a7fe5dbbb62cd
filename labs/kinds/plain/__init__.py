"""A node of somebody else's lab that we know no more of than that commands run in it."""
