"""A double of Micro-Manager's Java side: pycromanager's wire protocol, a real core.

`python bridge_double.py CONFIG LOG [VERSION]` prints its port and serves until it is
killed. Transport and acquisition engine are doubles; MMCore, camera and devices are
real, and live in this process whatever happens to its clients: "a subprocess-owned
core". LOG gets a JSON line per property that is set. It was written from pycromanager's
Python side; Micro-Manager Studio was never part of it.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymmcore
import zmq
from bridge_engine import (
    ACQUISITION,
    Factory,
    ImageProcessor,
    Made,
    Notifications,
    bound_socket,
)

REMOTE = "org.micromanager.remote."

JAVA = {
    "S": "java.lang.String",
    "D": "double",
    "B": "boolean",
    "I": "int",
    "P": REMOTE + "RemoteImageProcessor",
}


def methods(text: str) -> dict[str, list[str]]:
    """Names and types of arguments: "getProperty:SS getROI"."""
    pairs = (word.partition(":") for word in text.split())
    return {name: [JAVA[letter] for letter in types] for name, _, types in pairs}


METHODS = {
    "mmcorej.CMMCore": methods(
        "getCameraDevice getNumberOfComponents getNumberOfCameraChannels getROI "
        "getBytesPerPixel getImageWidth getImageHeight getExposure setExposure:D "
        "getImageBitDepth getPixelSizeUm getLoadedDevices isSequenceRunning "
        "getBufferTotalCapacity getProperty:SS hasProperty:SS isPropertyReadOnly:SS "
        "getPropertyType:SS getAllowedPropertyValues:SS hasPropertyLimits:SS "
        "getPropertyLowerLimit:SS getPropertyUpperLimit:SS setProperty:SSS "
        "getDevicePropertyNames:S getDeviceType:S setCameraDevice:S "
        "stopSequenceAcquisition:S"
    ),
    "mmcorej.StrVector": methods("size get:I"),
    "mmcorej.PropertyType": methods("swigValue"),
    "java.awt.Rectangle": {},
    REMOTE + "RemoteAcquisitionFactory": methods("createAcquisition:SSBIB"),
    REMOTE + "RemoteImageProcessor": methods(
        "startPull startPush getPullPort getPushPort"
    ),
    REMOTE + "RemoteNotificationHandler": methods(
        "start getPort notificationHandlingComplete"
    ),
    ACQUISITION: methods(
        "getEventPort getDataSink isFinished abort addImageProcessor:P "
        "blockUntilEventsFinished:D areEventsFinished waitForCompletion "
        "checkForExceptions"
    ),
    "Sink": methods("getStorage isFinished"),
    "Storage": methods("getDiskLocation getSummaryMetadata"),
}
CONSTRUCTORS = {
    "mmcorej.CMMCore": [],
    REMOTE + "RemoteAcquisitionFactory": ["mmcorej.CMMCore"],
    REMOTE + "RemoteImageProcessor": [],
    REMOTE + "RemoteNotificationHandler": [ACQUISITION],
}


def describe(made: Made) -> dict[str, Any]:
    """What the client needs to know of an object to make its shadow."""
    api = [
        {"name": name, "arguments": types, "return-type": "java.lang.Object"}
        for name, types in METHODS[made.kind].items()
    ]
    rectangle = made.kind == "java.awt.Rectangle"
    return {
        "type": "unserialized-object",
        "class": made.kind,
        "hash-code": made.number,
        "interfaces": [made.kind],
        "fields": ["x", "y", "width", "height"] if rectangle else [],
        "api": api,
    }


class Rectangle:
    def __init__(self, sides: tuple[int, ...]) -> None:
        self.x, self.y, self.width, self.height = sides


class Number:
    """Of an enumeration, as SWIG wraps it."""

    def __init__(self, value: int) -> None:
        self.swigValue = lambda: int(value)


class Strings:
    def __init__(self, texts: tuple[str, ...]) -> None:
        self.size, self.get = lambda: len(texts), lambda i: texts[i]


class Core:
    """The real one; what is set is logged."""

    def __init__(self, config: Path, log: Path) -> None:
        from mm_test_adapters import device_adapter_path

        self.core, self.log = pymmcore.CMMCore(), log
        self.core.setDeviceAdapterSearchPaths([str(device_adapter_path())])
        self.core.loadSystemConfiguration(str(config))

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.core, name)

        def call(*arguments: Any) -> Any:
            value = method(*arguments)
            if name == "setProperty":
                row = {"time_s": time.time(), "set": list(arguments)}
                with self.log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
            return value

        return call


MAKERS: dict[str, Callable[..., Any]] = {
    REMOTE + "RemoteAcquisitionFactory": Factory,
    REMOTE + "RemoteImageProcessor": ImageProcessor,
    REMOTE + "RemoteNotificationHandler": Notifications,
}


class Server:
    """Answers requests on its port, and on one more per object that wants its own."""

    def __init__(self, core: Core, version: str) -> None:
        self.core, self.version = core, version
        self.objects: dict[int, Made] = {}

    def listen(self) -> int:
        socket, port = bound_socket(zmq.REP)
        threading.Thread(target=self.serve, args=(socket,), daemon=True).start()
        return port

    def serve(self, socket: Any) -> None:
        while True:
            request = json.loads(socket.recv_multipart()[0].decode("iso-8859-1"))
            try:
                reply = self.answer(request)
            except Exception as error:
                reply = {"type": "exception", "value": str(error)}
            socket.send(json.dumps(reply).encode("iso-8859-1"))

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        command = request["command"]
        if command == "connect":
            return {"type": "none", "version": self.version}
        if command == "get-constructors":
            path = request["classpath"]
            api = [{"name": path, "arguments": CONSTRUCTORS[path]}]
            return {"type": "none", "api": api}
        if command == "constructor":
            path = request["classpath"]
            arguments = [self.argument(a) for a in request["arguments"]]
            make = MAKERS.get(path)
            made = Made(path, self.core if make is None else make(*arguments))
            reply = self.told(made)
            return {**reply, "port": self.listen()} if "new-port" in request else reply
        if command == "destructor":
            self.objects.pop(request["hash-code"], None)
            return {"type": "null"}
        target = self.objects[request["hash-code"]].target
        if command == "get-field":
            return self.told(getattr(target, request["name"]))
        arguments = [self.argument(a) for a in request["arguments"]]
        value = getattr(target, request["name"])(*arguments)
        if request["name"] == "getPropertyType":
            return self.told(Made("mmcorej.PropertyType", Number(value)))
        if request["name"] == "getROI":
            return self.told(Made("java.awt.Rectangle", Rectangle(tuple(value))))
        return self.told(value)

    def argument(self, value: Any) -> Any:
        return (
            self.objects[value["hash-code"]].target
            if isinstance(value, dict)
            else value
        )

    def told(self, value: Any) -> dict[str, Any]:
        if isinstance(value, tuple):
            value = Made("mmcorej.StrVector", Strings(value))
        if isinstance(value, Made):
            self.objects[value.number] = value
            return describe(value)
        if isinstance(value, dict):
            return {"type": "object", "class": "JSONObject", "value": json.dumps(value)}
        kind = {type(None): "null", str: "string"}.get(type(value), "primitive")
        return {"type": kind, "value": value}


def main() -> None:
    version = sys.argv[3] if len(sys.argv) > 3 else "5.1.0"
    server = Server(Core(Path(sys.argv[1]), Path(sys.argv[2])), version)
    sys.stdout.write(f"{server.listen()}\n")
    sys.stdout.flush()
    threading.Event().wait()


if __name__ == "__main__":
    main()
