"""Map the top-level folders to one import package, `blinkloop`."""

from setuptools import find_packages, setup

ROOMS = ("training", "export", "runtime", "integrations")

packages = find_packages(include=["blinkloop", "blinkloop.*"])
package_dir = {}
for room in ROOMS:
    package_dir[f"blinkloop.{room}"] = room
    packages.append(f"blinkloop.{room}")
    packages += [f"blinkloop.{room}.{name}" for name in find_packages(room)]

setup(packages=packages, package_dir=package_dir)
