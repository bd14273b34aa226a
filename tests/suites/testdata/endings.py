"""Tests that end in every way that there is."""
import os
import signal
import sys
import unittest


class Endings(unittest.TestCase):
    def test_1_fine(self):
        pass

    def test_2_hangs(self):
        while True:
            signal.pause()

    def test_3_fails(self):
        self.fail("as it should")

    def test_4_skipped(self):
        self.skipTest("as it should be")


class Part(unittest.TestCase):
    def test_fails_after_another(self):
        with self.subTest():
            self.assertNotIn("left", sys.modules)

    def test_a_leaves_something(self):
        sys.modules["left"] = sys


class Tlswrap(unittest.TestCase):
    """Fails only where tlswrap is, and not in the same way."""
    here = "TLSWRAP_CONTROL" in os.environ

    def test_always(self):
        self.assertFalse(self.here)

    def test_known_in_tls(self):
        self.assertFalse(self.here)

    def test_once(self):
        once = os.path.join(os.environ["ENDINGS_DIR"], "once")
        if self.here and not os.path.exists(once):
            open(once, "w").close()
            self.fail("the first time")

    def test_with_the_others(self):
        self.assertFalse(self.here and "left" in sys.modules)


class Dying(unittest.TestCase):
    def test_1_dies(self):
        os.abort()

    def test_2_fine(self):
        pass


class Last(unittest.TestCase):
    def test_fine(self):
        import threading
        threading._register_atexit(os._exit, 3)  # the interpreter's own end
