#!/usr/bin/env bash
# Make sure the libraries that Qt and OpenGL need are there; install them where we may (root on Debian).
set -euo pipefail

packages=(python3-venv xvfb xauth libgl1 libegl1 libglx-mesa0 libgl1-mesa-dri libopengl0 libxkbcommon-x11-0 libxcb-cursor0
    libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0
    libxcb-xkb1 libdbus-1-3 libfontconfig1 libglib2.0-0 fonts-dejavu-core)

command -v dpkg-query >/dev/null || exit 0 # not Debian: the user's own package manager is in charge

missing=()
for package in "${packages[@]}"; do
    # libglib2.0-0 is called libglib2.0-0t64 on newer releases
    status=$(dpkg-query -W -f '${Status}\n' "$package" "${package}t64" 2>/dev/null || true)
    [[ $status == *"install ok"* ]] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "System libraries are missing. Please run: sudo apt-get install ${missing[*]}" >&2
    exit 1
fi
echo "Installing system libraries: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
