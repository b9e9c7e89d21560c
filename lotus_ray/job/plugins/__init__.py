"""Find, import and check plug-ins: see `use`."""
