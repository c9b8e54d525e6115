#!/usr/bin/env bash
# Environments of the two programs we compare with, one each, from PyPI.
#
#   bash benchmarks/accuracy/setup_peers.sh SMAPPY_ENV PICASSO_ENV
#
# PYTHON names the interpreter (default: python3). On Python 3.11 pip takes SMAPpy 0.4.1,
# the newest release for it; 0.5.5 needs Python >= 3.12. PySide6/PyQt6 come along but no
# display is needed.
set -euo pipefail
[ $# -eq 2 ] || { sed -n 2,9p "$0"; exit 2; }
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-python3}
for pair in "$1=smappy-smlm" "$2=picassosr==0.11.3"; do
    folder=${pair%%=*} package=${pair#*=}
    [ -d "$folder" ] || "$python" -m venv "$folder"
    "$folder/bin/python" -m pip install -q -c "$root/constraints.txt" "$package"
done
"$1/bin/python" -c 'import smappy; from importlib.metadata import version; print("SMAPpy", version("smappy-smlm"))'
MPLBACKEND=Agg "$2/bin/python" -c 'import picasso; print("Picasso", picasso.__version__)'
