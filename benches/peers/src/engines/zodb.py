"""zope.session on ZODB FileStorage, driven by one JSON object a line on standard input.

The same sessions, values and picks as the other engines have: see payload.rs.
"""

import json
import os
import sys
import threading
import time

import transaction
import ZODB
import ZODB.FileStorage
from ZODB.POSException import ConflictError
from zope.session.session import (
    PersistentSessionDataContainer,
    SessionData,
    SessionPkgData,
)

PACKAGES = ("cart", "profile")
KEY = "data"
MASK = (1 << 64) - 1


class Dice:
    def __init__(self, seed):
        self.state = seed & MASK

    def roll(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        x = self.state
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
        return x ^ (x >> 31)


def digits():
    dice = Dice(0xD161)
    return "".join("%016x" % dice.roll() for _ in range(4096))


DIGITS = digits()


def value(number):
    at = Dice(number).roll() % (len(DIGITS) - 284)
    return "%016x" % number + DIGITS[at : at + 284]


def first_value(session, package):
    return value(1 << 62 | Dice(session ^ (len(package) << 40)).roll() >> 2)


def client(session):
    dice = Dice(session ^ 0x5EED00000000)
    return "%016x%016x" % (dice.roll(), dice.roll())


class Store:
    def __init__(self, folder):
        storage = ZODB.FileStorage.FileStorage(os.path.join(folder, "Data.fs"))
        self.db = ZODB.DB(storage, pool_size=100, cache_size=30000)

    def make(self, sessions):
        manager = transaction.TransactionManager()
        connection = self.db.open(manager)
        container = PersistentSessionDataContainer()
        # Sweeping inside a request would take seconds of it.
        container.disable_implicit_sweeps = True
        connection.root()["sessions"] = container
        for session in range(sessions):
            data = SessionData()
            for package in PACKAGES:
                data[package] = SessionPkgData()
                data[package][KEY] = first_value(session, package)
            container[client(session)] = data
            if session % 1000 == 999:
                manager.commit()
        manager.commit()
        connection.close()

    def worker(self):
        return Worker(self.db)


class Worker:
    def __init__(self, db):
        self.manager = transaction.TransactionManager()
        self.connection = db.open(self.manager)

    def commit(self, session, new):
        while True:
            try:
                self.manager.begin()
                container = self.connection.root()["sessions"]
                container[client(session)][PACKAGES[0]][KEY] = new
                self.manager.commit()
                return
            except ConflictError:
                self.manager.abort()

    def load(self, session):
        self.manager.begin()
        data = self.connection.root()["sessions"][client(session)]
        found = [data[package][KEY] for package in PACKAGES]
        self.manager.abort()
        return found

    def close(self):
        self.manager.abort()
        self.connection.close()


def run(store, task, step):
    """Threads that each do `step` until the time is up, or as often as is their share."""
    seconds, operations = task["seconds"], task["operations"]
    among = min(task["sessions"], 1000) if task["hot"] else task["sessions"]
    threads = task["threads"]
    ready = threading.Barrier(threads)
    took, spans, failures = [], [], []

    def one(number):
        worker = store.worker()
        dice = Dice(task["seed"] * 1000 + number)
        mine = []
        ready.wait()
        start = end = time.perf_counter()
        try:
            while (seconds is None or end - start < seconds) and (
                operations is None or len(mine) < -(-operations // threads)
            ):
                step(worker, dice.roll() % among, dice)
                now = time.perf_counter()
                mine.append(now - end)
                end = now
        except Exception as error:
            failures.append(repr(error))
        took.extend(mine)
        spans.append((start, end))
        worker.close()

    running = [threading.Thread(target=one, args=(n,)) for n in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if failures:
        raise RuntimeError(failures[0])
    took.sort()
    return {
        "operations": len(took),
        "seconds": max(e for _, e in spans) - min(s for s, _ in spans),
        "p50_us": took[len(took) * 50 // 100] * 1e6,
        "p99_us": took[len(took) * 99 // 100] * 1e6,
    }


def sweep(store, task):
    """Makes every tenth session stale and sweeps: in seconds, the commit included."""
    worker = store.worker()
    worker.manager.begin()
    container = worker.connection.root()["sessions"]
    for session in range(0, task["sessions"], 10):
        container.data[client(session)].setLastAccessTime(1)
    worker.manager.commit()
    before = len(container.data)
    start = time.perf_counter()
    container.sweep()
    worker.manager.commit()
    seconds = time.perf_counter() - start
    removed = before - len(container.data)
    worker.close()
    return {"seconds": seconds, "removed": removed}


def main():
    store = Store(sys.argv[1])
    worker = store.worker()

    def say(answer):
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    say("ready")
    for line in sys.stdin:
        task = json.loads(line)
        do = task["do"]
        if do == "make":
            store.make(task["sessions"])
            say("made")
        elif do == "commit":
            worker.commit(task["session"], task["value"])
            say("committed")
        elif do == "load":
            say(worker.load(task["session"]))
        elif do == "commits":
            say(run(store, task, lambda w, s, dice: w.commit(s, value(dice.roll()))))
        elif do == "loads":
            say(run(store, task, lambda w, s, _: w.load(s)))
        elif do == "sweep":
            say(sweep(store, task))
        else:
            break
    worker.close()
    store.db.close()
    say("closed")


main()
