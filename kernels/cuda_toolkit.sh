#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Prints the root of a CUDA 13 toolkit: $KVASIR_CUDA_ROOT if it has bin/nvcc, else the system's, else one made of pip wheels.
#   cuda_toolkit.sh CACHE_DIR
# The wheels (about 480 MB) go to CACHE_DIR once; no driver and no root rights are needed. Fails in words on stderr.
set -eu
cache=${1:?usage: cuda_toolkit.sh CACHE_DIR}

if [ -n "${KVASIR_CUDA_ROOT:-}" ]; then
  [ -x "$KVASIR_CUDA_ROOT/bin/nvcc" ] || { echo "KVASIR_CUDA_ROOT=$KVASIR_CUDA_ROOT has no bin/nvcc" >&2; exit 1; }
  echo "$KVASIR_CUDA_ROOT"
  exit 0
fi
for nvcc in "$(command -v nvcc || true)" /usr/local/cuda/bin/nvcc; do
  if [ -n "$nvcc" ] && [ -x "$nvcc" ]; then
    dirname "$(dirname "$(readlink -f "$nvcc")")"
    exit 0
  fi
done

if [ ! -e "$cache/complete" ]; then
  command -v python3 >/dev/null || { echo "no nvcc, and no python3 to fetch one: install CUDA 13" >&2; exit 1; }
  rm -rf "$cache"
  mkdir -p "$cache"
  python3 -m venv "$cache/venv" >&2 || { echo "python3 -m venv failed: install python3-venv" >&2; exit 1; }
  "$cache/venv/bin/pip" install --quiet --disable-pip-version-check \
    nvidia-cuda-nvcc==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 \
    nvidia-cuda-cccl==13.0.85 >&2 || { echo "pip could not fetch the CUDA wheels; set KVASIR_CUDA_ROOT" >&2; exit 1; }
  for root in "$cache"/venv/lib/python3.*/site-packages/nvidia/cu13; do
    ln -sfn lib "$root/lib64"  # nvcc looks there
    ln -sfn "$root" "$cache/root"
  done
  touch "$cache/complete"
fi
[ -x "$cache/root/bin/nvcc" ] || { echo "$cache/root has no bin/nvcc: remove $cache and try again" >&2; exit 1; }
echo "$cache/root"
