"""What people see while a grid runs."""
