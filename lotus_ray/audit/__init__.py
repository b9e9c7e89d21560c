"""The signed record of a deletion request: what it says, and how it is signed and checked."""
