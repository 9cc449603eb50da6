#!/usr/bin/env bash
# Make the virtual environment with the tested versions; called by `make setup`.
set -euo pipefail
PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}

if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "setup: Python 3.11 or newer is needed, found $("$PYTHON" --version 2>&1); try PYTHON=python3.12 make setup" >&2
    exit 1
fi

# torchcodec loads FFmpeg's shared libraries, and the sharder runs the ffmpeg and ffprobe commands.
if ! command -v ffmpeg >/dev/null || ! command -v ffprobe >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "setup: installing FFmpeg"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes apt-get install -y -qq --no-install-recommends ffmpeg >/dev/null
    else
        echo "setup: FFmpeg is missing; run: sudo apt-get install -y ffmpeg" >&2
        exit 1
    fi
fi

[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
PIP="$VENV/bin/python -m pip --disable-pip-version-check"
echo "setup: installing Python packages into $VENV (some minutes the first time)"
$PIP install -q -U "pip>=24" "setuptools>=77" wheel
$PIP install -q -c constraints.txt torch
$PIP install -q -c constraints.txt torchcodec
# DeepSpeed is a source package that looks at the installed torch; nothing is compiled, so no compiler is needed.
$PIP install -q -c constraints.txt ninja py-cpuinfo psutil hjson msgpack einops "pydantic>=2" tqdm numpy packaging
DS_BUILD_OPS=0 DS_ACCELERATOR=${DS_ACCELERATOR:-cpu} $PIP install -q -c constraints.txt --no-build-isolation deepspeed
# setuptools warns of every editable installation at length.
PYTHONWARNINGS=ignore $PIP install -q -c constraints.txt --no-build-isolation -e ".[dev]"
"$VENV/bin/python" -c 'import torch, torchcodec, deepspeed' >/dev/null 2>&1 || {
    "$VENV/bin/python" -c 'import torch, torchcodec, deepspeed'
    exit 1
}
echo "setup: done"
