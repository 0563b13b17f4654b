#!/usr/bin/env bash
# Unpacks ONNX Runtime's C and C++ headers into the folder that is named, without installing anything.
# They come from Debian's libonnxruntime-dev; the C API is stable, so they fit newer libraries too.
set -euo pipefail
target=${1:?usage: fetch-headers.sh FOLDER}
suite=${2:-trixie}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$target"
echo "deb [signed-by=$keyring] http://deb.debian.org/debian $suite main" >"$work/sources.list"
apt=(apt-get -qq -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=-
     -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
"${apt[@]}" update
(cd "$work" && "${apt[@]}" download libonnxruntime-dev && dpkg-deb -x libonnxruntime-dev_*.deb unpacked)
cp -R "$work/unpacked/usr/include/onnxruntime/." "$target"
echo "$target"
