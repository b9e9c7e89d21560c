"""Which sample plays which role."""
