"""Functions that run on each node, one module for each subject.

They are sent to the nodes by value, so that a result does not depend on the version of this project there. They use the
standard library alone; other packages are imported inside a function, and where that fails, the failure is the result.
"""
