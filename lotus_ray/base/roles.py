"""The roles of samples, in the order in which tables of roles number them."""

FORGET, RETAIN, UNSEEN, TEST = "forget", "retain", "unseen", "test"
ROLES = (FORGET, RETAIN, UNSEEN, TEST)  # these are evaluated
OTHER_TRAIN = "rest"  # only originals and gold standards train on these; files say "rest"
CALIBRATION = "calibration"  # replaces `unseen` where LoTUS asks how accurate the original is
STORED = (*ROLES, OTHER_TRAIN, CALIBRATION)
