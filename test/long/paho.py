# Runs one test of one of Eclipse Paho's suites, in the folder with the suites: paho.py SUITE PORT TEST. Its exit status is
# 0 if the test passes. Without TEST, it prints the names of all tests, a line each.
import os
import runpy
import sys
import unittest

suite, port, *chosen = sys.argv[1:]


def main():
    tests = sys.modules["__main__"].Test
    if not chosen:
        print("\n".join(unittest.TestLoader().getTestCaseNames(tests)), flush=True)
        os._exit(0)
    result = unittest.TestResult()
    unittest.TestSuite([tests(chosen[0])]).run(result)
    for _, trace in result.errors + result.failures:
        print(trace, file=sys.stderr, flush=True)
    # Threads of its clients may still be reading.
    os._exit(0 if result.wasSuccessful() else 1)


# A suite reads its arguments by itself before it hands over to unittest, which would not know them.
unittest.main = main
sys.path.insert(0, os.getcwd())
sys.argv = [suite, "--hostname", "127.0.0.1", "--port", port]
runpy.run_path(suite, run_name="__main__")
