"""What a node is asked, and answers by itself.

Everything here is sent to the nodes by value, so that an answer does not depend on what is installed there: standard
library only. What a question needs besides is imported inside of it; where that fails, the failure is the answer.
"""
