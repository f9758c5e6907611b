"""Studies of physics questions by searches of the product itself; each is one command and can be resumed."""
