"""The contract of a method, the engine that runs it, and the methods."""
