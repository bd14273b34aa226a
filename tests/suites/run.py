"""run.py SECONDS [RESOURCE]: runs tests of CPython's, and says how each has ended.

Standard input has, in JSON, the names of tests, classes or modules, and the tests to skip. Descriptor 3 gets a
line for each test's begin and for its end, in JSON, and one when all is over. A test that takes longer than SECONDS
ends all of it: who reads the lines knows which one, and what has ended before.
"""
import faulthandler
import json
import os
import sys
import traceback
import unittest

from test import support

seconds = float(sys.argv[1])
support.use_resources = sys.argv[2:]
support.verbose = False
out = os.fdopen(os.dup(3), "w", buffering=1)
os.close(3)
os.set_inheritable(out.fileno(), False)


def say(what, test, **more):
    json.dump({"what": what, "test": test, **more}, out)
    out.write("\n")


class Result(unittest.TestResult):
    """Says of each test how it has ended; the first bad end of a test and its parts counts."""

    def startTest(self, test):
        super().startTest(test)
        self.bad = None
        faulthandler.dump_traceback_later(seconds, exit=True)
        say("begin", test.id())

    def stopTest(self, test):
        super().stopTest(test)
        how, why = self.bad or ("ok", "")
        say("end", test.id(), how=how, why=why)

    def note(self, test, how, err):
        why = err if isinstance(err, str) else traceback.format_exception_only(*err[:2])[-1].strip().split("\n")[0]
        if isinstance(test, unittest.suite._ErrorHolder):  # of a class or a module
            say("end", test.id(), how=how, why=why)
        elif not self.bad or how == "failed":
            self.bad = (how, why)

    def addError(self, test, err):
        self.note(test, "failed", err)

    addFailure = addError

    def addSubTest(self, test, part, err):
        if err:
            self.note(test, "failed", err)

    def addSkip(self, test, reason):
        self.note(test, "skipped", reason)

    def addUnexpectedSuccess(self, test):
        self.note(test, "failed", "unexpected success")


def each(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from each(test)
        else:
            yield test


asked = json.load(sys.stdin)
loaded = each(unittest.defaultTestLoader.loadTestsFromNames(asked["names"]))
skip = set(asked["skip"])
unittest.TestSuite(test for test in loaded if test.id() not in skip).run(Result())
faulthandler.dump_traceback_later(seconds, exit=True)  # the interpreter's own end may hang
say("over", "")
out.close()
