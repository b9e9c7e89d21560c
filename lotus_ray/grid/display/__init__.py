"""Show people the progress of a grid."""
