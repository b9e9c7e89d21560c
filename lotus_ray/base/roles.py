"""The role of each sample in unlearning, in the order in which tables of roles number them.

forget       training samples that the model must forget
retain       training samples that the model must keep
unseen       held-out samples that methods may use
test         held-out samples that only metrics use
other train  training samples that only the original and the gold standard train on
calibration  samples that replace `unseen` when LoTUS asks how accurate the original is
"""

FORGET, RETAIN, UNSEEN, TEST = "forget", "retain", "unseen", "test"
ROLES = (FORGET, RETAIN, UNSEEN, TEST)  # the roles that are evaluated
OTHER_TRAIN = "rest"  # the name in files
CALIBRATION = "calibration"
STORED = (*ROLES, OTHER_TRAIN, CALIBRATION)  # a table of roles holds indices into this tuple
