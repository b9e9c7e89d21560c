"""The four roles that a sample can play, in the order in which they are stored."""

FORGET, RETAIN, UNSEEN, TEST = "forget", "retain", "unseen", "test"
ROLES = (FORGET, RETAIN, UNSEEN, TEST)
