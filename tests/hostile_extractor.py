"""An extractor that does to its process what a page asks for; for tests of the sandbox."""

import os
import signal


def make(settings):
    state = {"pages": -1}  # the first is the one that the extractor is warmed up on

    def extract(page):
        state["pages"] += 1
        word, _, rest = page.partition(" ")
        if word == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if word == "exit":
            os._exit(7)
        if word == "hang":
            while True:
                pass
        if word == "memory":
            return "x" * (3 << 30)
        if word == "deep":
            return extract(page)
        if word == "raise":
            raise ValueError(rest)
        if word == "only-fresh" and state["pages"] > 1:  # it fails after other pages, and not alone
            os.kill(os.getpid(), signal.SIGSEGV)
        if word == "raise-unless-fresh" and state["pages"] > 1:
            raise ValueError("not fresh")
        if word == "surrogate":
            return "\ud800"
        if word == "huge":
            return rest * 1_000_000
        return page[:settings["letters"]]

    return extract
