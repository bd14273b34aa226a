"""Makes the modules here ones of Python's package of tests."""
import os
import test

test.__path__.append(os.path.dirname(__file__))
