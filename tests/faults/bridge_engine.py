"""The acquisition engine of `bridge_double`: hardware sequences of one camera."""

from __future__ import annotations

import itertools
import json
import queue
import random
import socket
import sys
import threading
import time
from typing import Any

import pymmcore
import zmq

ACQUISITION = "org.micromanager.acqj.main.Acquisition"
numbers = itertools.count(1)

PORTS = range(20_000, 32_768)
"""For sockets that a client binds: below those that systems give out by themselves."""
held: list[socket.socket] = []


def bound_socket(kind: int) -> tuple[Any, int]:
    """A socket bound to a port that the system chose, and its port."""
    bound = zmq.Context.instance().socket(kind)
    return bound, bound.bind_to_random_port("tcp://127.0.0.1")


def port_for_client() -> int:
    """For a socket that the other side binds; no other double gives it out.

    The double of a killed run calls that run's ports until it ends itself. Whoever else
    binds one of them later shares his messages with it: a run whose events went there
    got no frame. So this process holds the port, in UDP, which is in nobody's way.
    """
    for port in random.sample(PORTS, len(PORTS)):
        holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            holder.bind(("127.0.0.1", port))
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            holder.close()
            continue
        held.append(holder)
        return port
    raise OSError(f"no port of {PORTS} is free")


class Made:
    """Something that the client is to hold a shadow of."""

    def __init__(self, kind: str, target: Any) -> None:
        self.kind, self.target, self.number = kind, target, next(numbers)


class ImageProcessor:
    """Sends images to Python and waits for their end to come back."""

    def __init__(self) -> None:
        self.push, self.push_port = bound_socket(zmq.PUSH)
        self.pull_port = port_for_client()
        self.finished = threading.Event()

    def getPullPort(self) -> int:
        return self.pull_port

    def getPushPort(self) -> int:
        return self.push_port

    def startPush(self) -> None:
        pass

    def startPull(self) -> None:
        def pull() -> None:
            back = zmq.Context.instance().socket(zmq.PULL)
            back.connect(f"tcp://127.0.0.1:{self.pull_port}")
            while "special" not in json.loads(back.recv_multipart()[0]):
                pass
            self.finished.set()

        threading.Thread(target=pull, daemon=True).start()

    def send(self, pixels: Any, metadata: dict[str, Any]) -> None:
        number = next(numbers) % 2**31
        kind = "byte-array" if pixels.itemsize == 1 else "short-array"
        image = {"type": kind, "value": f"@{number:x}"}
        message = json.dumps({"metadata": metadata, "pixels": image}).encode()
        self.push.send_multipart(
            [message, number.to_bytes(4, sys.byteorder), pixels.tobytes()]
        )

    def end(self) -> None:
        self.push.send(json.dumps({"special": "finished"}).encode())
        self.finished.wait(5)


class Notifications:
    """Told twice: no more events, no more images."""

    def __init__(self, acquisition: Acquisition) -> None:
        self.push, self.port = bound_socket(zmq.PUSH)
        acquisition.notifications = self

    def getPort(self) -> int:
        return self.port

    def start(self) -> None:
        pass

    def notificationHandlingComplete(self) -> None:
        pass

    def tell(self, kind: str, milestone: str) -> None:
        self.push.send(json.dumps({"type": kind, "milestone": milestone}).encode())


class Acquisition:
    """An engine as small as it can be: hardware sequences of one camera."""

    def __init__(self, core: Any) -> None:
        self.core, self.port = core.core, port_for_client()
        self.processor: ImageProcessor | None = None
        self.notifications: Notifications | None = None
        self.aborted, self.events_finished = threading.Event(), threading.Event()
        self.finished = threading.Event()
        self.error: str | None = None
        self.events: queue.Queue[list[Any] | None] = queue.Queue()
        threading.Thread(target=self.pull, daemon=True).start()
        threading.Thread(target=self.run, daemon=True).start()

    def pull(self) -> None:
        asked = zmq.Context.instance().socket(zmq.PULL)
        asked.connect(f"tcp://127.0.0.1:{self.port}")
        while not self.finished.is_set():
            if asked.poll(50):
                events = json.loads(asked.recv())["events"]
                self.events.put(None if "special" in events[0] else events)
        asked.close(0)

    def run(self) -> None:
        try:
            while (events := self.next()) is not None:
                self.acquire(events)
        except Exception as error:
            self.error = str(error)
        if self.core.isSequenceRunning():
            self.core.stopSequenceAcquisition()
        self.events_finished.set()
        if self.notifications is not None:
            self.notifications.tell("global", "acq_events_finished")
        if self.processor is not None:
            self.processor.end()
        if self.notifications is not None:
            self.notifications.tell("image", "data_sink_finished")
        self.finished.set()

    def next(self) -> list[Any] | None:
        while not self.aborted.is_set():
            try:
                return self.events.get(timeout=0.02)
            except queue.Empty:
                continue
        return None

    def acquire(self, events: list[Any]) -> None:
        core = self.core
        core.startSequenceAcquisition(len(events), 0, True)
        for event in events:
            while core.getRemainingImageCount() == 0:
                if self.aborted.is_set():
                    return
                if not core.isSequenceRunning() and core.getRemainingImageCount() == 0:
                    raise RuntimeError("Expected images did not arrive")
                time.sleep(0.0005)
            if core.isBufferOverflowed():
                raise RuntimeError("Sequence buffer overflow")
            tags = pymmcore.Metadata()
            pixels = core.popNextImageMD(tags)
            metadata = {
                "Axes": event["axes"],
                "ImageNumber": int(tags.GetSingleTag("ImageNumber").GetValue()),
                "PixelType": "GRAY8" if pixels.itemsize == 1 else "GRAY16",
                "Width": pixels.shape[1],
                "Height": pixels.shape[0],
            }
            assert self.processor is not None
            self.processor.send(pixels, metadata)

    def addImageProcessor(self, processor: ImageProcessor) -> None:
        self.processor = processor

    def getEventPort(self) -> int:
        return self.port

    def getDataSink(self) -> Made:
        return Made("Sink", self)

    def getStorage(self) -> Made:
        return Made("Storage", self)

    def getDiskLocation(self) -> None:
        return None

    def getSummaryMetadata(self) -> dict[str, Any]:
        return {}

    def isFinished(self) -> bool:
        return self.finished.is_set()

    def areEventsFinished(self) -> bool:
        return self.events_finished.is_set()

    def blockUntilEventsFinished(self, seconds: float) -> None:
        self.events_finished.wait(seconds)

    def waitForCompletion(self) -> None:
        self.finished.wait()

    def checkForExceptions(self) -> None:
        if self.error is not None:
            raise RuntimeError(self.error)

    def abort(self) -> None:
        self.aborted.set()


class Factory:
    def __init__(self, core: Any) -> None:
        self.core = core

    def createAcquisition(self, *_: Any) -> Made:
        return Made(ACQUISITION, Acquisition(self.core))
