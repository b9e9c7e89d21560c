"""The roles that a sample can play, in the order in which they are stored."""

FORGET, RETAIN, UNSEEN, TEST = "forget", "retain", "unseen", "test"
ROLES = (FORGET, RETAIN, UNSEEN, TEST)  # these are evaluated
REST = "rest"  # trained on by the original and the gold standard, used by no method
CALIBRATION = "calibration"  # in place of `unseen` where LoTUS asks how uncertain to be
STORED = (*ROLES, REST, CALIBRATION)
