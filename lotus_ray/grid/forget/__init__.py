"""`lotus-ray forget`: answer a deletion request, and leave the weights and a record."""
